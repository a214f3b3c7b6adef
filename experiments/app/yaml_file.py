"""Reads files of settings that a command wrote, and that another user may have changed since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.errors import ConfigurationError
from envs.safe_files import read_regular

_MOST_BYTES = 16 << 20
_DEEPEST = 100
_MOST_PARTS = 100_000


def read_yaml(file: Path) -> Any:
    """Returns the plain values of a file.

    No file that a command writes refers to anything. One that does could read secrets from the
    environment, which would be written into results or sent to a tracker, and parts that are
    repeated by reference could grow without end.

    Args:
        file: The file.

    Raises:
        ConfigurationError: It cannot be read, is no YAML, or refers to something; the message
            names file and place.
    """
    content = read_regular(file, _MOST_BYTES)
    try:
        text = content.decode()
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:  # the time to read it grows with the square
                raise ConfigurationError(f"{file} is damaged: it is nested too deep")
            if isinstance(event, yaml.AliasEvent):
                raise ConfigurationError(
                    f"{file} is damaged: line {event.start_mark.line + 1}: *{event.anchor} "
                    "repeats another part; write it out"
                )
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (ValueError, AssertionError, RecursionError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file} is damaged ({error})") from error
    except OmegaConfBaseException as error:
        raise ConfigurationError(f"{file} is damaged ({error})") from error
    for place, value in _texts("", values):
        if "${" in value:
            raise ConfigurationError(
                f"{file}: {place} refers to something else, {value[:80]!r}; write the value itself"
            )
    return values


def refuse_endless(file: Path) -> None:
    """Refuses a file of configuration whose parts repeat each other until no memory holds them.

    Args:
        file: The file. What else may be wrong with it is told where it is composed.

    Raises:
        ConfigurationError: It is no regular file, or far larger than it is long.
    """
    sizes: dict[str, int] = {}
    open_parts: list[tuple[str | None, int]] = []
    try:
        for event in yaml.parse(read_regular(file, _MOST_BYTES).decode(), Loader=yaml.SafeLoader):
            anchor: str | None = getattr(event, "anchor", None)
            if isinstance(event, yaml.CollectionStartEvent):
                open_parts.append((anchor, 1))
                size = 0
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, size = open_parts.pop()
            elif isinstance(event, yaml.AliasEvent):
                anchor, size = None, sizes.get(event.anchor, 1)
            else:
                size = int(isinstance(event, yaml.ScalarEvent))
            if anchor is not None and size:
                sizes[anchor] = size
            if open_parts:
                open_parts[-1] = (open_parts[-1][0], open_parts[-1][1] + size)
            if size > _MOST_PARTS or len(open_parts) > _DEEPEST:
                line = event.start_mark.line + 1
                raise ConfigurationError(f"{file}:{line}: its parts repeat or nest without end")
    except (ValueError, yaml.YAMLError):
        return


def _texts(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yields all texts with their keys, names of keys among them."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for name, item in value.items():
            own = f"{place}.{name}" if place else str(name)
            yield own, str(name)
            yield from _texts(own, item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(f"{place}[{index}]", item)
