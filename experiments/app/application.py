"""Command-line applications: Hydra around a job, every error as one message."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from envs import catalog
from envs.errors import PalsError
from envs.extras import missing_extra
from experiments.app import schemas
from experiments.app.composition import typed
from experiments.app.replacement import with_replacements
from experiments.app.trust import (
    allow_named_packages,
    foreign_hydra_refused,
    refuse_other_packages,
)
from experiments.runs.interruption import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated

T = TypeVar("T")
_FULL_ERROR = "HYDRA_FULL_ERROR"


class JobFailed(Exception):
    """A job failed in a process of its own and has said so already."""


def describe(error: BaseException) -> str:
    """Returns the one message that tells a user what went wrong."""
    if isinstance(error, PalsError):
        return str(error)
    if isinstance(error, HydraException):
        cause = error.__cause__
        detail = f"\n{cause}" if isinstance(cause, OmegaConfBaseException) else ""
        text = f"{error}".partition("\nConfig search path")[0] + detail
        return re.sub(r"\n\s*(full_key|object_type)\S*.*", "", text)
    if isinstance(error, OmegaConfBaseException | OSError):
        return str(error)
    if isinstance(error, ImportError) and (message := missing_extra(error)):
        return message
    return f"{type(error).__name__}: {error} (debug=on shows where)"


def application(
    config_name: str, cls: type[T]
) -> Callable[[Callable[[T, Path], None]], Callable[[], None]]:
    """Turns a job into a command-line application that Hydra configures.

    A job that fails prints one message (and a traceback with ``debug=on``) and the
    application exits with 1; the other jobs of a multirun still run.

    Args:
        config_name: The application's file in ``conf``, without ``.yaml``.
        cls: The class of its configuration; the job gets an object of it, and its folder.
    """

    def decorate(job: Callable[[T, Path], None]) -> Callable[[], None]:
        home = os.getpid()
        failed: list[Path] = []

        def task(config: DictConfig) -> None:
            directory = Path(HydraConfig.get().runtime.output_dir)
            try:
                allow_named_packages(HydraConfig.get().overrides.task)
                refuse_other_packages(config)
                job(typed(cls, config), directory)
            except Exception as error:
                if config.debug.traceback:
                    traceback.print_exception(error)
                print_error(describe(error))
                if os.getpid() != home:
                    raise JobFailed(directory) from error  # Hydra's launcher has to tell
                failed.append(directory)

        def main() -> None:
            failed.clear()
            schemas.register()
            sys.argv[1:] = with_replacements(_with_model_files(sys.argv[1:]))
            start = hydra.main(
                version_base="1.3", config_path=str(catalog.CONF_DIR), config_name=config_name
            )
            try:
                allow_named_packages(sys.argv[1:])
                with _errors_handed_on(), foreign_hydra_refused(sys.argv[1:]):
                    start(task)()
            except Terminated:
                print_error("ended by SIGTERM")
                sys.exit(EXIT_TERMINATED)
            except KeyboardInterrupt:
                print_error("interrupted")
                sys.exit(EXIT_INTERRUPTED)
            except Exception as error:
                if os.environ.get(_FULL_ERROR) == "1":
                    raise
                print_error(describe(error))
                sys.exit(1)
            if failed:
                sys.exit(1)

        return main

    return decorate


@contextmanager
def _errors_handed_on() -> Iterator[None]:
    """Has Hydra raise errors, where otherwise it would print them its own way and exit."""
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = before


def _with_model_files(arguments: list[str]) -> list[str]:
    """Returns the arguments with ``model=/path/to/config.json`` spelt as Hydra needs it."""
    spelt = []
    for text in arguments:
        key, _, value = text.partition("=")
        if key == "model" and (value.endswith(".json") or Path(value).is_dir()):
            spelt += ["model=huggingface", f"model.path='{value}'"]
        else:
            spelt.append(text)
    return spelt


def print_error(message: str) -> None:
    """Prints a message on standard error."""
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()
