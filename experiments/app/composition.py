"""Turns what Hydra composes into typed options; below this room nobody sees a composed node."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hydra import compose
from omegaconf import MISSING, DictConfig
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from envs.errors import ConfigurationError
from envs.fields import check_values
from envs.scenario import plain
from experiments.app.settings import RunConfig
from experiments.app.unreadable_values import unresolved
from experiments.app.yaml_file import read_yaml

T = TypeVar("T")


def composed(cls: type[T], config_name: str, *overrides: str) -> T:
    """Composes a configuration within a running application.

    Args:
        cls: The class of the configuration.
        config_name: Its file in ``conf``, without ``.yaml``.
        *overrides: Overrides as on the command line.
    """
    return typed(cls, compose(config_name, overrides=list(overrides)))


def typed(cls: type[T], node: DictConfig) -> T:
    """Returns a composed configuration as its own class, resolved.

    Fields of a dataclass are built; choices, whose class the configuration names, stay plain
    mappings until they are needed. Keys that the class does not have only served others.

    Raises:
        ConfigurationError: A value refers to a key that is not there.
    """
    if "experiment" in node and node.experiment is not None:
        raise ConfigurationError(
            "experiment: its file holds no settings of ours, or misses its first line, "
            "# @package _global_, so that they would be passed over"
        )
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for item in fields(cls):  # type: ignore[arg-type]
        if item.name not in node:
            continue
        try:
            value = plain(node[item.name])
        except InterpolationResolutionError as error:
            key = str(error.full_key or item.name)
            raise ConfigurationError(unresolved(key, error)) from error
        except OmegaConfBaseException as error:
            raise ConfigurationError(f"{item.name}: {error}") from error
        hint = hints[item.name]
        if is_dataclass(hint):
            value = _built(item.name, hint, value)
        elif get_origin(hint) is list and is_dataclass(get_args(hint)[0]):
            of = get_args(hint)[0]
            value = [
                _built(f"{item.name}[{index}]", of, entry) for index, entry in enumerate(value)
            ]
        values[item.name] = value
    check_values(cls, values, "")
    return cls(**values)


def _built(key: str, cls: Any, values: Any) -> Any:
    """Builds an object of a class that the configuration's own class names."""
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{key}: must hold keys and values, got {values!r}")
    missing = [name for name, value in values.items() if value == MISSING]
    if missing:
        raise ConfigurationError(f"{key}.{min(missing)}: no value given")
    return cls(**{name: value for name, value in values.items() if name != "_target_"})


def saved_run(file: Path) -> RunConfig:
    """Returns the configuration of a finished run from its ``config.yaml``.

    Raises:
        ConfigurationError: The file is damaged, or has other keys than a run; the message names it.
    """
    saved = saved_settings(file, RunConfig, optional={"experiment"})
    try:
        return typed(RunConfig, DictConfig(saved))
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def saved_settings(
    file: Path,
    cls: type[object],
    optional: Collection[str] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns the keys of a configuration that was kept in a file.

    Args:
        file: The file.
        cls: The class of the configuration.
        optional: Keys that the file may lack.
        renamed: What keys are called now, by what they were called when the file may have been
            written.

    Raises:
        ConfigurationError: The file is damaged, or has other keys; the message names it.
    """
    saved: Any = read_yaml(file)
    if not isinstance(saved, dict):
        raise ConfigurationError(f"{file} is damaged (it holds no keys and values)")
    saved.pop("_target_", None)
    for before, now in renamed.items():
        if before in saved:
            saved.setdefault(now, saved.pop(before))
    known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    if other := sorted(str(key) for key in saved.keys() - known):
        raise ConfigurationError(f"{file} has keys that are not known: {', '.join(other)}")
    if missing := sorted(known - saved.keys() - set(optional)):
        raise ConfigurationError(f"{file} lacks {', '.join(missing)}")
    return saved
