"""Commands without Hydra: paths as people have them, and every error as one message."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envs.errors import ConfigurationError
from envs.user_paths import user_path
from experiments.app.application import FULL_ERROR, describe, print_error
from experiments.runs.interruption import EXIT_INTERRUPTED, FAILURES


def path_argument(text: str) -> Path:
    """Returns a path of the command line; ``~`` is the home folder, after ``=`` as well.

    Raises:
        argparse.ArgumentTypeError: It names nothing, or the home of an unknown user.
    """
    if not text:
        raise argparse.ArgumentTypeError("a path without a name")
    try:
        return user_path(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@contextmanager
def errors_told() -> Iterator[None]:
    """Ends the program with one message where something goes wrong.

    ``HYDRA_FULL_ERROR=1`` gives a traceback, as it does for the other commands.
    """
    try:
        yield
    except KeyboardInterrupt:
        print_error("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except FAILURES as error:
        if os.environ.get(FULL_ERROR) == "1":
            if isinstance(error, SystemExit):  # which may be for success
                raise RuntimeError(describe(error)) from error
            raise
        print_error(describe(error, f"{FULL_ERROR}=1"))
        sys.exit(1)
