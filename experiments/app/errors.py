"""Every error as one message: what went wrong, and how a program ends then."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from envs import catalog
from envs.catalog.files import first_line
from envs.errors import PalsError
from envs.extras import missing_extra
from experiments.app.misspelt import misspelt
from experiments.app.termination import kept, termination_told
from experiments.app.unreadable_values import unresolved, wrong_kind
from experiments.runs.interruption import EXIT_INTERRUPTED, EXIT_TERMINATED, FAILURES, Terminated

FULL_ERROR = "HYDRA_FULL_ERROR"

_NOT_USERS = (
    *(catalog.CONF_DIR.parent / name for name in ("agents", "baselines", "envs", "experiments")),
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")),
)
"""Folders of code that is not the user's own."""


def describe(error: BaseException, more: str = "debug=on") -> str:
    """Returns the one message that tells a user what went wrong.

    Args:
        error: What was raised.
        more: What shows where, of an error that nobody foresaw.
    """
    if isinstance(error, PalsError):
        return "; ".join([str(error), *getattr(error, "__notes__", [])])
    if message := misspelt(error):
        return message
    if isinstance(error, OverrideParseException):
        key, _, value = str(error.override).partition("=")
        spelt = f'{key}="{value}"'
        return f"{error}\nA value of other characters is quoted twice, as in '{spelt}'"
    if isinstance(error, HydraException):
        if message := wrong_kind(error):
            return message
        cause = error.__cause__
        detail = f"\n{cause}" if isinstance(cause, OmegaConfBaseException) else ""
        text = f"{error}".partition("\nConfig search path")[0] + detail
        return re.sub(r"\n\s*(full_key|object_type)\S*.*", "", text)
    if isinstance(error, InterpolationResolutionError) and error.full_key:
        return unresolved(str(error.full_key), error)
    if isinstance(error, OmegaConfBaseException | OSError):
        return str(error)
    if isinstance(error, OverflowError) and "full_key: " in str(error):  # OmegaConf's
        return first_line(error)
    if isinstance(error, yaml.YAMLError):
        return f"a file of settings is no YAML: {error}"
    if isinstance(error, ImportError) and (message := missing_extra(error)):
        return message
    if isinstance(error, SystemExit):
        return (
            f"code of a run asked to end the program (sys.exit({error.code!r})), which leaves no "
            f"result; let it raise an error, or return ({_place(error)}{more} shows where)"
        )
    return f"{type(error).__name__}: {error} ({_place(error)}{more} shows where)"


def _place(error: BaseException) -> str:
    """Returns where a user's own code raised an error, or led to it; empty where it did not."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_file() and not any(file.is_relative_to(place) for place in _NOT_USERS):
            return f"{file}, line {frame.lineno}; "
    return ""


def print_error(message: str) -> None:
    """Prints a message on standard error."""
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()


@contextmanager
def errors_told(
    tell: Callable[[str], None] = print_error,
    failures: type[BaseException] | tuple[type[BaseException], ...] = FAILURES,
    more: str = f"{FULL_ERROR}=1",
) -> Iterator[None]:
    """Ends the program with one message where something goes wrong.

    ``HYDRA_FULL_ERROR=1`` gives a traceback instead.

    Args:
        tell: Prints what went wrong.
        failures: What counts as going wrong.
        more: What shows where, of an error that nobody foresaw.
    """
    where = ""
    try:
        with termination_told():
            try:
                yield
            finally:
                where = kept()
    except Terminated:
        tell(f"ended by SIGTERM{where}")
        sys.exit(EXIT_TERMINATED)
    except KeyboardInterrupt:
        tell("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except failures as error:
        if os.environ.get(FULL_ERROR) == "1":
            if isinstance(error, SystemExit):  # which may be for success
                raise RuntimeError(describe(error)) from error
            raise
        tell(describe(error, more))
        sys.exit(1)
