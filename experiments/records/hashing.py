"""Hashes of configurations and of what they read: what results and caches are keyed by."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from envs.catalog.targets import OWN_PACKAGES, allowed_packages, configuration_class
from envs.errors import ConfigurationError, WorkloadError
from envs.sources import HASH_LENGTH, short_hash, source_hash
from envs.user_paths import user_path
from envs.workloads.public_file import PublicFile

_NAMES_FILE = re.compile(r"(^|_)(path|file|folder)s?$")
_MOST_FILES = 10_000
_LARGE_BYTES = 64 << 20
"""Files in folders that are larger, such as a model's weights, count by size and time."""


def plain(node: Any) -> Any:
    """Returns a configuration as plain dictionaries, lists and values, resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def digest(*parts: Any) -> str:
    """Returns a short hash of configurations and plain values: the key of a result or cache.

    A string under a key such as ``path``, ``trace_file`` or ``model_folder``, alone or in a list,
    stands for the content of the file or folder that it names, so that a changed file gives another
    hash. A ``_target_`` of a package that is neither this project's nor allowed stands for its
    sources (:func:`envs.sources.computation_hash` has the others), and a public trace for the file
    that was downloaded.

    Args:
        *parts: Configurations, and nested mappings, lists and plain values.

    Raises:
        ConfigurationError: A folder holds too many files.
    """
    text = json.dumps([_with_inputs(plain(part)) for part in parts], sort_keys=True, default=str)
    return short_hash(text.encode())


def _with_inputs(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        known = {str(name): _with_inputs(item, str(name)) for name, item in value.items()}
        if value.get("path", "") is None and isinstance(value.get("_target_"), str):
            known["path"] = _public_content(value["_target_"])
        return known
    if isinstance(value, list | tuple):
        return [_with_inputs(item, key) for item in value]
    if not isinstance(value, str):
        return value
    if key == "_target_":
        package = value.partition(".")[0]
        known_code = package in OWN_PACKAGES | allowed_packages()
        return value if known_code else {"target": value, "sources": source_hash([package])}
    if _NAMES_FILE.search(key):
        place = user_path(value, key)
        if place.is_file():
            return {"file": value, "sha256": file_digest(place)}
        if place.is_dir():
            return {"folder": value, "sha256": _folder_digest(key, place)}
    return value


def _public_content(target: str) -> Any:
    """Returns the content that a class reads where it is given no file of its own."""
    try:
        public = getattr(configuration_class(target), "public_file", None)
        found = public.find() if isinstance(public, PublicFile) else None
    except (ConfigurationError, WorkloadError):  # building it tells
        return None
    return None if found is None else {"public": file_digest(found)}


def _folder_digest(key: str, folder: Path) -> str:
    """Returns a short hash of the files in a folder, hidden ones and bytecode left out."""
    total = hashlib.sha256()
    files = list(islice(folder.rglob("*"), _MOST_FILES + 1))
    if len(files) > _MOST_FILES:
        raise ConfigurationError(
            f"{key}: {folder} holds more than {_MOST_FILES:,} files; name the one that is meant"
        )
    for file in sorted(files):
        name = file.relative_to(folder)
        if any(part.startswith(".") or part == "__pycache__" for part in name.parts):
            continue
        if file.is_file():
            state = file.stat()
            large = state.st_size > _LARGE_BYTES
            content = f"{state.st_size} {state.st_mtime_ns}" if large else file_digest(file)
            total.update(f"{name}\0{content}\0".encode())
    return total.hexdigest()[:HASH_LENGTH]


def file_digest(file: Path) -> str:
    """Returns a short hash of a file's content."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:HASH_LENGTH]
