"""Keeps secrets of a command's configuration out of its messages and its log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.masking import Masking
from envs.user_paths import user_path
from experiments.app.yaml_file import refuse_endless

_FOLDER = re.compile(r"file://([^,\]'\"]+)")
_FOLDER_OPTIONS = ("--config-dir", "-cd", "--config-path", "-cp")
_MOST_FILES = 1000


def masking_of(config: DictConfig) -> Masking:
    """Returns what masks the secrets of a composed configuration."""
    try:
        return Masking(OmegaConf.to_container(config, resolve=True))
    except OmegaConfBaseException:  # a value refers to what is not there; the job will say so
        return Masking(OmegaConf.to_container(config, resolve=False))


def masking_of_line(arguments: Sequence[str]) -> Masking:
    """Returns what masks the secrets of a command line, before it is composed.

    Those in files of the user's own, which the line names as places to look in, are masked, too:
    what cannot be composed has to be told without them.
    """
    found: list[Any] = list(_own_contents(arguments))
    for text in arguments:
        key, _, value = text.partition("=")
        *above, name = key.lstrip("+").split(".")
        if value.startswith("["):
            found.append(value.strip("[]").split(","))
        elif "environment" in above:
            found.append({"environment": {name: value}})
        else:
            found.append({name: value})
    return Masking(found)


def own_files(arguments: Sequence[str]) -> Iterator[Path]:
    """Yields the configuration files in the folders that a command line names."""
    before = ""
    for text in arguments:
        folders = _FOLDER.findall(text)
        if text.startswith(_FOLDER_OPTIONS):
            folders.append(text.partition("=")[2])
        elif before in _FOLDER_OPTIONS:
            folders.append(text)
        before = text
        for folder in filter(None, folders):
            yield from islice(
                user_path(folder, "the folder of settings").rglob("*.yaml"), _MOST_FILES
            )


def _own_contents(arguments: Sequence[str]) -> Iterator[Any]:
    for file in own_files(arguments):
        with suppress(Exception):  # composing them tells what is wrong
            refuse_endless(file)
            yield OmegaConf.to_container(OmegaConf.load(file), resolve=False)


@contextmanager
def masked_log(masking: Masking) -> Iterator[None]:
    """Masks secrets in all that is logged, by Hydra and other libraries, too."""
    before = logging.getLogRecordFactory()

    def masked(*given: Any, **named: Any) -> logging.LogRecord:
        record = before(*given, **named)
        with suppress(TypeError, ValueError):  # a line that cannot be put together; logging tells
            record.msg, record.args = masking.text(record.getMessage()), None
        return record

    logging.setLogRecordFactory(masked)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)
