"""What computes a number: this project's sources, those of allowed packages, and libraries.

Whatever is kept to be used again has :func:`computation_hash` in its key, so that results of other
code, of another version of a library or of a user's own edited package are never taken for results
of what is at hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from envs.catalog.files import CONF_DIR
from envs.catalog.targets import OWN_PACKAGES, allowed_packages
from envs.imports import own_imports, places_of

LIBRARIES = (
    "gymnasium", "llvmlite", "numba", "numpy", "pandas", "sb3-contrib", "scikit-learn", "scipy",
    "skops", "stable-baselines3", "torch",
)  # fmt: skip
"""Libraries that numbers depend on; one that is not installed counts, too."""
HASH_LENGTH = 16
"""Hexadecimal digits of the hashes that results and caches are keyed by."""
_FACES = OWN_PACKAGES | {"pals_gym"}
"""This project's packages, its public face among them: their code counts in any case."""
_NO_SOURCE = ("__pycache__",)


def computation_hash() -> str:
    """Returns the hash of all that computes a number, inputs apart."""
    parts = [code_hash(), packages_hash(), library_versions(), platform.machine()]
    return short_hash(json.dumps(parts, sort_keys=True).encode())


@cache
def code_hash() -> str:
    """Returns the hash of this project's sources, and of the calibrations.

    Configurations mention calibrations by name only; all else that ``conf`` says is part of the
    configuration itself.
    """
    total = hashlib.sha256(source_hash(OWN_PACKAGES).encode())
    for file in sorted((CONF_DIR / "calibration").glob("*.yaml")):
        total.update(f"{file.name}\0".encode() + file.read_bytes())
    return total.hexdigest()[:HASH_LENGTH]


def packages_hash() -> str | None:
    """Returns the hash of the sources of the packages a user has allowed; ``None`` for none."""
    allowed = allowed_packages()
    return source_hash(allowed) if allowed else None


def source_hash(packages: Iterable[str]) -> str:
    """Returns the hash of the sources of packages, or of modules that are one file.

    Other modules of a user's own that they import count with their Python files.

    A process computes it once: it is the code that was imported which counts, not what has been
    edited since.

    Args:
        packages: Their top-level names.
    """
    return _source_hash(frozenset(packages))


@cache
def _source_hash(packages: frozenset[str]) -> str:
    total = hashlib.sha256()
    for package in sorted(packages):
        total.update(f"{package}\0".encode())
        places = places_of(package)
        for place in places:
            for name, file in _sources(place, everything=package not in OWN_PACKAGES):
                total.update(f"{name}\0".encode() + file.read_bytes())
        if not places:  # typed into a session: its code cannot be seen, and may change
            total.update(f"{os.getpid()} {os.times().elapsed}".encode())
    for package in own_imports(packages, _FACES):
        for place in places_of(package):
            for name, file in _sources(place, everything=False):
                total.update(f"{package}/{name}\0".encode() + file.read_bytes())
    return total.hexdigest()[:HASH_LENGTH]


def _sources(place: Path, *, everything: bool) -> Iterator[tuple[str, Path]]:
    """Yields name and path of the files of a package.

    Args:
        place: Its folder, or the file of a module.
        everything: Whether files that are no Python count: a user's package may read its own.
    """
    if place.is_file():
        yield place.name, place
        return
    for file in sorted(place.rglob("*" if everything else "*.py")):
        name = file.relative_to(place)
        hidden = any(part.startswith(".") or part in _NO_SOURCE for part in name.parts)
        if not hidden and file.is_file():
            yield str(name), file


@cache
def library_versions() -> dict[str, str | None]:
    """Returns the versions of the libraries that numbers depend on."""
    return {name: installed_version(name) for name in LIBRARIES}


def installed_version(name: str) -> str | None:
    """Returns the version of an installed distribution; ``None`` where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def short_hash(content: bytes) -> str:
    """Returns a short hash of bytes."""
    return hashlib.sha256(content).hexdigest()[:HASH_LENGTH]
