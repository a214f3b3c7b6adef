"""Turns a choice, a name or a mapping, into a configuration that fits its class."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from envs.catalog.files import NOT_COMPOSED, compose, first_line, names, schema
from envs.catalog.targets import buildable
from envs.errors import ConfigurationError


def load(group: str, choice: str | Mapping[str, Any], **overrides: Any) -> DictConfig:
    """Loads a choice of a group without Hydra.

    Args:
        group: Configuration group, such as ``"model"``.
        choice: A name in the group, or a mapping whose ``base`` key picks the choice that its
            other keys override. A nested mapping with another ``_target_`` than the choice's
            replaces what is there, as does a value that is no mapping.
        **overrides: Values that replace those of the file.

    Raises:
        ConfigurationError: The name is unknown, a key is misspelt or a value has the wrong
            type; the message names the key and the choices there are.
    """
    if not isinstance(choice, Mapping | DictConfig):
        return _changed(group, str(choice), overrides)
    values = {**_keys(choice), **overrides}
    if "_target_" in values:
        return checked(group, OmegaConf.create(values))
    if "base" not in values:
        raise ConfigurationError(
            f"{group}: a mapping needs 'base' (one of {', '.join(names(group))}) or '_target_'"
        )
    return _changed(group, str(values.pop("base")), values)


def _keys(choice: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in choice.items()}


def _changed(group: str, name: str, changes: Mapping[str, Any]) -> DictConfig:
    try:
        node = compose(group, name)
        clear_replaced(node, changes)
        return DictConfig(OmegaConf.merge(node, dict(changes)))
    except NOT_COMPOSED as error:
        place = _too_large(changes) if isinstance(error, OverflowError) else ""
        raise ConfigurationError(f"{group}={name}: {place}{first_line(error)}") from error


def _too_large(changes: Mapping[Any, Any]) -> str:
    """Returns the key of a number that no float can hold, which OmegaConf does not name."""
    for key, value in changes.items():
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            return f"{key}: "
        if isinstance(value, Mapping) and (inner := _too_large(value)):
            return f"{key}.{inner}"
    return ""


def clear_replaced(node: DictConfig, changes: Mapping[str, Any]) -> None:
    """Empties the keys of a configuration that changes replace rather than merge into."""
    for key, change in changes.items():
        present = node.get(key) if key in node and not OmegaConf.is_missing(node, key) else None
        if not isinstance(present, DictConfig):
            continue
        if not isinstance(change, Mapping | DictConfig):
            node[key] = change
        elif "_target_" in present and change.get("_target_") not in (None, present["_target_"]):
            node[key] = None
        else:
            clear_replaced(present, change)


def checked(key: str, node: Any, kind: str | None = None) -> DictConfig:
    """Checks a configuration that may lack its schema against the fields of its class.

    Args:
        key: Its full key, for messages.
        node: The configuration, with the key ``_target_``.
        kind: What it may name; by default what the first part of ``key`` says.

    Raises:
        ConfigurationError: The class is not one that may be named here, a key is misspelt or a
            value has the wrong type.
    """
    target = node.get("_target_")
    if not isinstance(target, str):
        raise ConfigurationError(f"{key}._target_: missing; it names the class to build")
    cls = named_class(key, kind or key.partition(".")[0], target)
    if not hasattr(cls, "__dataclass_fields__"):
        return DictConfig(node)
    try:
        return DictConfig(OmegaConf.merge(schema(target.replace(".", "/")), node))
    except NOT_COMPOSED as error:
        raise ConfigurationError(f"{key}: {first_line(error)}") from error


def resolved(key: str, node: DictConfig) -> Any:
    """Returns plain values, all interpolations followed.

    Raises:
        ConfigurationError: One leads nowhere; the message begins with its full key.
    """
    try:
        return OmegaConf.to_container(node, resolve=True)
    except NOT_COMPOSED as error:
        place = f"{key}." if getattr(error, "full_key", None) else f"{key}: "
        raise ConfigurationError(place + first_line(error)) from error


def named_class(key: str, kind: str, target: str) -> type[Any]:
    """Returns the class that a configuration names.

    Raises:
        ConfigurationError: It is not one that may be named here; the message begins with the key.
    """
    try:
        return buildable(kind, target)
    except ConfigurationError as error:
        raise ConfigurationError(f"{key}.{error}") from error
