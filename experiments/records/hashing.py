"""Hashes of configurations, files and source code: what results and caches are keyed by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import envs
from envs.catalog import CONF_DIR

_HASH_LENGTH = 16


def plain(node: Any) -> Any:
    """Returns a configuration as plain dictionaries, lists and values, resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def digest(*parts: Any) -> str:
    """Returns a short hash of configurations and plain values: the key of a result or cache.

    A string under a key ``path`` or ``*_path``, alone or in a list, stands for the content of
    the file it names, so that a changed file gives another hash.

    Args:
        *parts: Configurations, and nested mappings, lists and plain values.
    """
    text = json.dumps([_with_files(plain(part)) for part in parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def _with_files(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {str(name): _with_files(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_files(item, key) for item in value]
    if isinstance(value, str) and (key == "path" or key.endswith("_path")):
        file = Path(value).expanduser()
        if file.is_file():
            return {"file": value, "sha256": _file_digest(file)}
    return value


def _file_digest(file: Path) -> str:
    """Returns a short hash of a file's content."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:_HASH_LENGTH]


@cache
def simulator_digest() -> str:
    """Returns a hash of the source code that decides what a simulated run yields.

    It covers the package ``envs`` without the live servers, and the calibrations, which
    configurations mention by name only. Cached results have it in their key, so that results of
    older code are never taken for results of the code at hand.
    """
    root = Path(envs.__file__).parent
    code = [file for file in root.rglob("*.py") if file.relative_to(root).parts[0] != "live"]
    total = hashlib.sha256()
    for file in [*sorted(code), *sorted((CONF_DIR / "calibration").glob("*.yaml"))]:
        total.update(f"{file.relative_to(root.parent)}\0".encode())
        total.update(file.read_bytes())
    return total.hexdigest()[:_HASH_LENGTH]
