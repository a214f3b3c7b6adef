"""Finds named choices (``conf/<group>/<name>.yaml``) and composes their files.

A file inherits the schema of the class it configures through its defaults list::

    defaults:
      - /schema/envs/workloads/poisson/Poisson@_here_
      - _self_
    load: 0.7

The schema's path is the import path of a dataclass, ``envs.workloads.poisson.Poisson``;
its fields are the keys the file may set, and ``_target_`` follows from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from envs.catalog.targets import configuration_class
from envs.errors import ConfigurationError
from envs.nearest import did_you_mean

CONF_DIR = Path(__file__).resolve().parents[2] / "conf"
FOLDERS_VARIABLE = "PALS_CONF"
SCHEMA_PREFIX = "/schema/"
NOT_COMPOSED = (OmegaConfBaseException, OverflowError)
"""What OmegaConf raises: the second of a whole number that no float can hold."""
_NAME = re.compile(r"\w[\w-]*(/\w[\w-]*)*", re.ASCII)


def add_folder(folder: Path) -> None:
    """Has choices found in another folder, too, after those of ``conf``.

    The folders are kept in the environment variable ``PALS_CONF``, separated as in ``PATH``:
    processes started from here inherit them.

    Args:
        folder: It has the groups as subfolders, as ``conf`` has.
    """
    known = [str(own) for own in folders()[1:]]
    if str(folder) not in known:
        os.environ[FOLDERS_VARIABLE] = os.pathsep.join([*known, str(folder)])


def folders() -> list[Path]:
    """Returns the folders that choices are found in: ``conf``, and those that were added."""
    added = os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
    return [CONF_DIR, *(Path(folder) for folder in added if folder)]


def names(group: str) -> list[str]:
    """Returns the names of all choices of a group, sorted."""
    return sorted({path.stem for own in folders() for path in (own / group).glob("*.yaml")})


def choice_file(group: str, name: str) -> Path | None:
    """Returns the file of a choice; ``None`` where there is none."""
    if not _NAME.fullmatch(name):
        return None
    files = (own / group / f"{name}.yaml" for own in folders())
    return next((file for file in files if file.is_file()), None)


def groups() -> list[str]:
    """Returns all groups of ``conf``, those within others included, sorted."""
    folders = {file.parent for file in CONF_DIR.rglob("*.yaml")} - {CONF_DIR}
    return sorted(folder.relative_to(CONF_DIR).as_posix() for folder in folders)


@cache
def schema(path: str) -> DictConfig:
    """Returns the typed default configuration of the dataclass at ``path``.

    Args:
        path: Import path with slashes, as in a defaults list after ``/schema/``.

    Raises:
        ConfigurationError: There is no such dataclass, or its package is not allowed.
    """
    target = path.replace("/", ".")
    cls = configuration_class(target)
    node: DictConfig = OmegaConf.structured(cls)
    if leaves_open(cls):
        for name in optional_fields(cls):
            node[name] = MISSING
    OmegaConf.update(node, "_target_", target, force_add=True)
    return node


def leaves_open(cls: type[Any]) -> bool:
    """Returns whether a class finds values that a configuration does not give elsewhere.

    Such a class sets ``leaves_open = True``; it gets the keys that are given, and no defaults.
    """
    return bool(getattr(cls, "leaves_open", False))


def optional_fields(cls: type[Any]) -> list[str]:
    """Returns the fields of a dataclass that have a default."""
    return [
        field.name
        for field in fields(cls)
        if field.default is not NO_DEFAULT or field.default_factory is not NO_DEFAULT
    ]


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


def compose(group: str, name: str) -> DictConfig:
    """Composes the file of a choice as Hydra does, without Hydra.

    Args:
        group: Configuration group, such as ``"model"``.
        name: Name of the choice, as in ``model=NAME``.

    Raises:
        ConfigurationError: There is no such choice, or its file contradicts its schema.
    """
    file = choice_file(group, name)
    if file is None:
        found = names(group)
        known = f"there are {', '.join(found)}" if found else "it takes a mapping with a _target_"
        raise ConfigurationError(
            f"{group}: no choice named {name!r}{did_you_mean(name, found)} ({known})"
        )
    try:
        return _compose_file(group, file)
    except NOT_COMPOSED as error:
        raise ConfigurationError(f"{group}={name}: {first_line(error)}") from error


def _compose_file(group: str, file: Path) -> DictConfig:
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
            layers.append(_composed_beside(group, file, entry))
        else:
            for package, choice in entry.items():
                named = str(package).removeprefix("override ")
                sub_group, _, place = named.lstrip("/").partition("@")
                layers.append({place or sub_group.split("/")[-1]: compose(sub_group, choice)})
    if not self_placed:
        layers.append(own)
    return DictConfig(OmegaConf.merge(*layers))


def _composed_beside(group: str, file: Path, entry: str) -> DictConfig:
    """Composes a choice that another one's file begins with: beside it, or any of a group's."""
    if entry.startswith("/"):
        group, _, entry = entry[1:].rpartition("/")
    elif _NAME.fullmatch(entry):
        own = file.parent / f"{entry}.yaml"
        if own.is_file() and own != file:
            return _compose_file(group, own)
    return compose(group, entry)


def _placed(package: str, node: DictConfig) -> DictConfig:
    """Puts a node at a dotted package below the file's own (Hydra's ``@package`` syntax)."""
    if package in ("", "_here_"):
        return node
    outer = OmegaConf.create({})
    OmegaConf.update(outer, package, node, force_add=True)
    return outer


def first_line(error: Exception) -> str:
    """Returns what OmegaConf complains about, with the key, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key")), "")
    text = f"{key}: {lines[0]}" if key else lines[0]
    parent = getattr(error, "parent_node", None)
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and isinstance(parent, DictConfig):
        text += did_you_mean(str(error.key), [str(name) for name in parent if name != "_target_"])
    return text
