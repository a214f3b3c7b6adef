"""Commands without Hydra: paths as people have them."""

from __future__ import annotations

import argparse
from pathlib import Path

from envs.errors import ConfigurationError
from envs.user_paths import user_path


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
