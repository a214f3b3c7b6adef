"""Finds named choices (``conf/<group>/<name>.yaml``) and builds what they describe.

The YAML files are Hydra's configuration tree and the catalogue of names that
``gymnasium.make`` takes, so a choice is written down once. A file inherits the schema of
the class it configures through its defaults list::

    defaults:
      - /schema/envs/workloads/poisson/Poisson@_here_
      - _self_
    load: 0.7

The schema's path is the import path of a dataclass, ``envs.workloads.poisson.Poisson``;
its fields are the keys the file may set, and ``_target_`` follows from it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.errors import ConfigurationError
from envs.extras import missing_extra

CONF_DIR = Path(__file__).resolve().parent.parent / "conf"
SCHEMA_PREFIX = "/schema/"
_ALLOWED_PACKAGES = {
    "envs", "baselines", "agents", "experiments", "stable_baselines3", "sb3_contrib",
}  # fmt: skip


def allow_package(name: str) -> None:
    """Lets configurations instantiate classes of the top-level package ``name``.

    Only this project's packages and Stable-Baselines3's are allowed from the start, so that
    a configuration file from elsewhere cannot call arbitrary code.
    """
    _ALLOWED_PACKAGES.add(name)


def names(group: str) -> list[str]:
    """Returns the names of all choices of a group, sorted."""
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


def locate(target: str) -> Any:
    """Imports the object at a dotted path, if its package is allowed.

    Raises:
        ConfigurationError: The path does not exist or its package is not allowed.
    """
    package = target.split(".", 1)[0]
    if package not in _ALLOWED_PACKAGES:
        raise ConfigurationError(
            f"_target_: {target!r} is outside the allowed packages "
            f"({', '.join(sorted(_ALLOWED_PACKAGES))}); allow yours with "
            f"envs.catalog.allow_package({package!r}) or allow_packages=[{package}]"
        )
    module, _, attribute = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        extra = missing_extra(error) if isinstance(error, ImportError) else None
        raise ConfigurationError(f"_target_: cannot import {target!r}: {extra or error}") from error


@cache
def schema(path: str) -> DictConfig:
    """Returns the typed default configuration of the dataclass at ``path``.

    Args:
        path: Import path with slashes, as in a defaults list after ``/schema/``.
    """
    target = path.replace("/", ".")
    node: DictConfig = OmegaConf.structured(locate(target))
    OmegaConf.update(node, "_target_", target, force_add=True)
    return node


def schema_paths(directory: Path = CONF_DIR) -> Iterator[str]:
    """Yields the path of every schema that a file below ``directory`` inherits."""
    seen = set()
    for file in sorted(directory.rglob("*.yaml")):
        for entry in _defaults(OmegaConf.load(file)):
            if entry.startswith(SCHEMA_PREFIX):
                path = entry.removeprefix(SCHEMA_PREFIX).partition("@")[0]
                if path not in seen:
                    seen.add(path)
                    yield path


def _defaults(node: Any) -> list[str]:
    entries = node.get("defaults", []) if isinstance(node, DictConfig) else []
    return [entry for entry in entries if isinstance(entry, str)]


def load(group: str, choice: str | Mapping[str, Any], **overrides: Any) -> DictConfig:
    """Loads a choice of a group without Hydra.

    Args:
        group: Configuration group, such as ``"model"``.
        choice: A name in the group, or a mapping whose ``base`` key picks the choice that its
            other keys override.
        **overrides: Values that replace those of the file.

    Raises:
        ConfigurationError: The name is unknown, a key is misspelt or a value has the wrong
            type; the message names the key and the choices there are.
    """
    if isinstance(choice, Mapping):
        values = {str(key): value for key, value in choice.items()}
        if "_target_" in values:
            return checked(group, OmegaConf.create({**values, **overrides}))
        if "base" not in values:
            raise ConfigurationError(
                f"{group}: a mapping needs 'base' (one of {', '.join(names(group))}) or '_target_'"
            )
        return load(group, str(values.pop("base")), **{**values, **overrides})
    file = CONF_DIR / group / f"{choice}.yaml"
    if not file.is_file():
        raise ConfigurationError(
            f"{group}: no choice named {choice!r}; there are {', '.join(names(group))}"
        )
    try:
        node = _load_file(group, file)
        for key, value in overrides.items():
            if isinstance(value, str) and isinstance(node.get(key), DictConfig):
                node[key] = value  # another choice, by name; its class looks it up
        return DictConfig(OmegaConf.merge(node, overrides))
    except OmegaConfBaseException as error:
        raise ConfigurationError(f"{group}={choice}: {_first_line(error)}") from error


def _load_file(group: str, file: Path) -> DictConfig:
    node = OmegaConf.load(file)
    if not isinstance(node, DictConfig):
        raise ConfigurationError(f"{file}: must hold keys and values, not a list")
    own = OmegaConf.masked_copy(node, [str(key) for key in node if key != "defaults"])
    layers: list[Any] = []
    self_placed = False
    for entry in node.get("defaults", []):
        if entry == "_self_":
            layers.append(own)
            self_placed = True
        elif isinstance(entry, str) and entry.startswith(SCHEMA_PREFIX):
            path, _, package = entry.removeprefix(SCHEMA_PREFIX).partition("@")
            layers.append(_placed(package, schema(path)))
        elif isinstance(entry, str):
            layers.append(_load_file(group, file.parent / f"{entry}.yaml"))
        else:
            for package, choice in entry.items():
                sub_group, _, name = str(package).lstrip("/").partition("@")
                layers.append({name or sub_group.split("/")[-1]: load(sub_group, choice)})
    if not self_placed:
        layers.append(own)
    return DictConfig(OmegaConf.merge(*layers))


def _placed(package: str, node: DictConfig) -> DictConfig:
    """Puts a node at a dotted package below the file's own (Hydra's ``@package`` syntax)."""
    if package in ("", "_here_"):
        return node
    outer = OmegaConf.create({})
    OmegaConf.update(outer, package, node, force_add=True)
    return outer


def checked(key: str, node: Any) -> DictConfig:
    """Checks a configuration that may lack its schema against its class's dataclass fields."""
    target = node.get("_target_")
    if target is None:
        raise ConfigurationError(f"{key}._target_: missing; it names the class to build")
    cls = locate(str(target))
    if not (inspect.isclass(cls) and hasattr(cls, "__dataclass_fields__")):
        return DictConfig(node)
    try:
        return DictConfig(OmegaConf.merge(schema(str(target).replace(".", "/")), node))
    except OmegaConfBaseException as error:
        raise ConfigurationError(f"{key}: {_first_line(error)}") from error


def build(key: str, choice: Any, **runtime: Any) -> Any:
    """Builds the object that a name, mapping or composed configuration describes.

    Args:
        key: Configuration group, used to look names up and in error messages.
        choice: A name, a mapping or a composed configuration; any other object (one that
            is built already) is returned as it is.
        **runtime: Further keyword arguments for the class.

    Raises:
        ConfigurationError: See :func:`load`; also when a value is out of range.
    """
    if not isinstance(choice, str | Mapping | DictConfig):
        return choice
    node = checked(key, choice) if isinstance(choice, DictConfig) else load(key, choice)
    return _construct(key, node, runtime)


def _construct(key: str, node: Any, runtime: Mapping[str, Any], cls: Any = None) -> Any:
    values = {}
    missing = OmegaConf.missing_keys(node)
    if missing:
        raise ConfigurationError(f"{key}.{min(missing)}: no value given")
    for name, value in node.items():
        if name == "_target_":
            cls = locate(str(value))
        else:
            values[str(name)] = _convert(f"{key}.{name}", value)
    try:
        return cls(**{**values, **runtime})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{key}: {error}") from error


def _convert(key: str, value: Any) -> Any:
    if isinstance(value, DictConfig):
        if "_target_" in value:
            return _construct(key, checked(key, value), {})
        cls = OmegaConf.get_type(value)
        if is_dataclass(cls):
            return _construct(key, value, {}, cls)
        return {str(name): _convert(f"{key}.{name!s}", item) for name, item in value.items()}
    if OmegaConf.is_list(value):
        return [_convert(f"{key}[{index}]", item) for index, item in enumerate(value)]
    return value


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key")), "")
    return f"{key}: {lines[0]}" if key else lines[0]
