"""Command-line applications: Hydra around a job, every error as one message."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from envs import catalog
from envs.errors import ConfigurationError
from envs.masking import Masking
from experiments.app import schemas
from experiments.app.choices_help import command_help
from experiments.app.command_list import summary_of
from experiments.app.composition import typed
from experiments.app.confidential import (
    masked_log,
    masking_of,
    masking_of_line,
    own_files,
)
from experiments.app.errors import FULL_ERROR, describe, errors_told, print_error
from experiments.app.folder_lock import locked
from experiments.app.hydra_files import hydras_files_held, mask_hydras_files, write_hydras_files
from experiments.app.option_order import options_first
from experiments.app.paths import with_paths
from experiments.app.replacement import with_replacements
from experiments.app.termination import finished_goes_to
from experiments.app.trust import (
    add_named_folders,
    allow_named_packages,
    foreign_hydra_refused,
    refuse_other_packages,
)
from experiments.app.yaml_file import refuse_endless
from experiments.runs.interruption import FAILURES

T = TypeVar("T")


class JobFailed(Exception):
    """A job failed in a process of its own and has said so already."""


def application(
    config_name: str, cls: type[T], tell: Callable[[str], None] = print_error
) -> Callable[[Callable[[T, Path], None]], Callable[[], None]]:
    """Turns a job into a command-line application that Hydra configures.

    A job that fails prints one message (and a traceback with ``debug=on``) and the
    application exits with 1; the other jobs of a multirun still run.

    Args:
        config_name: The application's file in ``conf``, without ``.yaml``.
        cls: The class of its configuration; the job gets an object of it, and its folder.
        tell: Prints what went wrong.
    """

    def decorate(job: Callable[[T, Path], None]) -> Callable[[], None]:
        home = os.getpid()
        failed: list[Path] = []

        def task(config: DictConfig) -> None:
            directory = Path(HydraConfig.get().runtime.output_dir)
            masking = masking_of(config)
            try:
                mask_hydras_files(masking, config)
                given = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
                overrides = cast("list[str]", given)
                allow_named_packages(overrides)
                refuse_other_packages(config)
                _refuse_lost(cls, overrides)
                finished_goes_to(directory)
                with locked(directory), masked_log(masking):
                    write_hydras_files(masking, config)
                    job(typed(cls, config), directory)
            except FAILURES as error:
                if OmegaConf.select(config, "debug.traceback"):
                    sys.stderr.write(masking.text("".join(traceback.format_exception(error))))
                tell(masking.text(describe(error)))
                if os.getpid() != home:
                    raise JobFailed(directory) from error  # Hydra's launcher has to tell
                failed.append(directory)

        def main() -> None:
            failed.clear()
            masking = masking_of_line(sys.argv[1:])
            schemas.register()
            start = hydra.main(
                version_base="1.3", config_path=str(catalog.CONF_DIR), config_name=config_name
            )
            with errors_told(lambda text: tell(masking.text(text)), Exception, "debug=on"):
                sys.argv[1:] = options_first(with_replacements(with_paths(sys.argv[1:])))
                _refuse_former(cls, sys.argv[1:])
                _refuse_nameless_choices(sys.argv[1:])
                allow_named_packages(sys.argv[1:])
                add_named_folders(sys.argv[1:])
                for file in own_files(sys.argv[1:]):
                    refuse_endless(file)
                if {"-h", "--help"} & set(sys.argv[1:]):
                    _print_help(job, config_name)
                    return
                with (
                    masked_log(masking),
                    _errors_handed_on(),
                    foreign_hydra_refused(sys.argv[1:]),
                    hydras_files_held(),
                    _masked_output(masking, sys.argv[1:]),
                ):
                    start(task)()
            if failed:
                sys.exit(1)

        return main

    return decorate


def _print_help(job: Callable[..., None], config_name: str) -> None:
    """Prints what a command can be given; its summary is that of the job's module."""
    summary = summary_of(sys.modules[job.__module__].__doc__ or "")
    overrides = [text for text in sys.argv[1:] if not text.startswith("-")]
    width = shutil.get_terminal_size().columns
    sys.stdout.write(command_help(config_name, summary, overrides, width) + "\n")


@contextmanager
def _masked_output(masking: Masking, arguments: Sequence[str]) -> Iterator[None]:
    """Masks the configuration that ``--cfg`` has Hydra print in place of running."""
    if not any(text.startswith(("--cfg", "-c=")) or text == "-c" for text in arguments):
        yield
        return
    shown = io.StringIO()
    try:
        with redirect_stdout(shown):
            yield
    finally:
        sys.stdout.write(masking.text(shown.getvalue()))


@contextmanager
def _errors_handed_on() -> Iterator[None]:
    """Has Hydra raise errors, where otherwise it would print them its own way and exit."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before


def _refuse_former(cls: type[object], arguments: Sequence[str]) -> None:
    """Says what a key is called now.

    Args:
        cls: The configuration's class; ``renamed`` has the keys of now by those of before.
        arguments: What the command line changes.

    Raises:
        ConfigurationError: It changes a key of before.
    """
    renamed: Mapping[str, str] = getattr(cls, "renamed", {})
    for key in _changed(arguments):
        if key in renamed:
            raise ConfigurationError(f"{key}: is called {renamed[key]} here")


def _refuse_nameless_choices(arguments: Sequence[str]) -> None:
    """Names the group that is given no choice, or a number, as Hydra's own message does not.

    Raises:
        ConfigurationError: There is such a group.
    """
    for text in arguments:
        key, equals, value = text.lstrip("+").partition("=")
        group = key.partition("@")[0]
        if not equals or not (catalog.CONF_DIR / group).is_dir():
            continue
        if value == "null":
            raise catalog.nothing_chosen(group)
        for choice in _choices(text):
            if not isinstance(choice, str | QuotedString):
                raise ConfigurationError(
                    f"{group}: a choice is a name, got {value}; name one of "
                    f"{', '.join(catalog.names(group))}"
                )


def _choices(text: str) -> list[Any]:
    """Returns the choices in an argument; none where Hydra has to tell what is wrong with it."""
    try:
        found = OverridesParser.create().parse_override(text).value()
    except HydraException:
        return []
    listed = found.list if isinstance(found, ChoiceSweep) else found
    if isinstance(listed, list):
        return listed
    return [] if isinstance(listed, Sweep) else [listed]


def _refuse_lost(cls: type[object], arguments: Sequence[str]) -> None:
    """Refuses what would change nothing, though the record would have it.

    Args:
        cls: The configuration's class; ``no_effect`` says what to use instead, by key.
        arguments: What the command line changes.

    Raises:
        ConfigurationError: It changes such a key.
    """
    no_effect: Mapping[str, str] = getattr(cls, "no_effect", {})
    for key in _changed(arguments):
        if key in no_effect:
            raise ConfigurationError(f"{key}: has no effect here: {no_effect[key]}")


def _changed(arguments: Sequence[str]) -> list[str]:
    """Returns the outermost keys that a command line changes."""
    return [re.split(r"[=.@]", text.lstrip("+~"), maxsplit=1)[0] for text in arguments]
