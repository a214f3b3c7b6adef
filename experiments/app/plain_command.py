"""Commands without Hydra: paths as people have them, and every error as one message."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.app.application import FULL_ERROR, describe, print_error
from experiments.runs.interruption import EXIT_INTERRUPTED, FAILURES


def user_path(text: str) -> Path:
    """Returns a path of the command line; ``~`` is the home folder, after ``=`` as well.

    Raises:
        argparse.ArgumentTypeError: It names nothing.
    """
    if not text:
        raise argparse.ArgumentTypeError("a path without a name")
    return Path(os.path.expanduser(text))  # Path.expanduser fails for unknown users


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
