"""Which modules of a user's own a user's package imports, read from its sources."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of installed distributions, whose versions count instead."""


def places_of(package: str) -> list[Path]:
    """Returns the folders of a package, or the file of a module; none if there is no source.

    Args:
        package: A top-level name, or ``__main__``.
    """
    if package == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None)
        return [Path(file)] if file and Path(file).is_file() else []
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin and Path(spec.origin).is_file() else []


def own_imports(packages: Iterable[str], known: frozenset[str]) -> list[str]:
    """Returns the other modules of a user's own that packages import, and that those import.

    Python's own and installed ones are left out. Nothing is imported: sources are read.

    Args:
        packages: Top-level names.
        known: Names that are not followed.

    Returns:
        Top-level names, sorted.
    """
    seen = {*packages}
    waiting = [name for name in seen if name not in known]
    found = []
    while waiting:
        for name in _imported(places_of(waiting.pop())) - seen - known:
            seen.add(name)
            if name not in sys.stdlib_module_names and _is_own(name):
                found.append(name)
                waiting.append(name)
    return sorted(found)


def _is_own(name: str) -> bool:
    places = places_of(name)
    return bool(places) and not any(_INSTALLED.intersection(place.parts) for place in places)


def _imported(places: Iterable[Path]) -> set[str]:
    """Returns the top-level names that the sources of a package import."""
    return {name for place in places for file in _files(place) for name in _names(file)}


def _files(place: Path) -> Iterator[Path]:
    yield from [place] if place.is_file() else place.rglob("*.py")


def _names(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # importing it tells
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
