"""Builds the objects that configurations describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import FunctionType
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from envs.arguments import told
from envs.catalog.choices import checked, load, named_class, resolved
from envs.catalog.files import leaves_open, names, optional_fields
from envs.catalog.kinds import BASES
from envs.catalog.targets import is_of_kind
from envs.errors import ConfigurationError
from envs.fields import FieldError, check_values, field_parts, owner_name

_PLAIN = (int, float, bytes, list, tuple, ListConfig)
"""What a file may hold in a group's place, and is nothing that was built."""


def build(key: str, choice: Any, **runtime: Any) -> Any:
    """Builds the object that a name, mapping or composed configuration describes.

    Args:
        key: Configuration group, used to look names up and in error messages; a nested key
            begins with it.
        choice: A name, a mapping or a composed configuration; any other object (one that
            is built already) is returned as it is.
        **runtime: Further keyword arguments for the class.

    Raises:
        ConfigurationError: See :func:`envs.catalog.choices.load`; also when nothing or a plain
            value is chosen, or a value is out of range.
    """
    if choice is None:
        raise nothing_chosen(key)
    if not isinstance(choice, str | Mapping | DictConfig):
        refuse_other(key, choice)
        return choice
    node = checked(key, choice) if isinstance(choice, DictConfig) else load(key, choice)
    return _construct(key, node, runtime, named_class(key, key.partition(".")[0], node["_target_"]))


def refuse_other(key: str, choice: Any, kind: str | None = None) -> None:
    """Refuses what a group cannot take: a plain value, a class, or an object of another class.

    Args:
        key: Configuration group, or a nested key that begins with it.
        choice: A choice of the group in any form; names and mappings are looked at when they are
            built.
        kind: The group; by default what the first part of ``key`` says.

    Raises:
        ConfigurationError: It is none of this group.
    """
    if isinstance(choice, str | Mapping | DictConfig):
        return
    if isinstance(choice, _PLAIN):
        raise ConfigurationError(f"{key}: must be a name, or keys and values, got {choice!r}")
    if isinstance(choice, type | FunctionType):
        raise ConfigurationError(
            f"{key}: must be a name, keys and values, or an object; got the "
            f"{'class' if isinstance(choice, type) else 'function'} {choice.__qualname__}"
        )
    kind = kind or key.partition(".")[0]
    if not is_of_kind(kind, choice):
        raise ConfigurationError(
            f"{key}: must be a name in conf/{kind}, keys and values, or an object of "
            f"{' or '.join(BASES[kind])}; got {told(choice)}"
        )


def nothing_chosen(key: str) -> ConfigurationError:
    """Returns the error that a group has no choice."""
    found = names(key.partition(".")[0])
    known = f"one of {', '.join(found)}" if found else "a _target_"
    return ConfigurationError(f"{key}: nothing is chosen (null, or removed by ~); name {known}")


def _construct(key: str, node: DictConfig, runtime: Mapping[str, Any], cls: type[Any]) -> Any:
    missing = _missing(key, node)
    needed = missing - set(optional_fields(cls)) if leaves_open(cls) else missing
    if needed:
        raise ConfigurationError(f"{key}.{min(needed)}: no value given")
    parts = field_parts(cls) if is_dataclass(cls) else {}
    values = {}
    for item in node:
        name = str(item)
        if name == "_target_" or name in missing:
            continue
        values[name] = _convert(f"{key}.{name}", node[name], parts.get(name))
    try:
        if is_dataclass(cls):
            check_values(cls, values, key)
        return cls(**{**values, **runtime})
    except FieldError as error:
        if error.owner != owner_name(cls):  # a part of it, which knows its own key
            raise
        raise FieldError(key, error.field, error.problem) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigurationError(f"{key}: {error}") from error


def _missing(key: str, node: DictConfig) -> set[str]:
    """Returns the keys without a value.

    Raises:
        ConfigurationError: An interpolation leads nowhere.
    """
    resolved(key, node)
    return OmegaConf.missing_keys(node)


def _convert(key: str, value: Any, kind: str | None) -> Any:
    """Returns plain values for a node, with what its field may hold built."""
    if isinstance(value, DictConfig):
        cls = OmegaConf.get_type(value)
        if kind is not None and "_target_" in value:
            node = checked(key, value, kind)
            return _construct(key, node, {}, named_class(key, kind, node["_target_"]))
        if is_dataclass(cls) and "_target_" not in value:
            return _construct(key, value, {}, cls)
        return {str(name): _convert(f"{key}.{name!s}", item, kind) for name, item in value.items()}
    if OmegaConf.is_list(value):
        return [_convert(f"{key}[{index}]", item, kind) for index, item in enumerate(value)]
    return value
