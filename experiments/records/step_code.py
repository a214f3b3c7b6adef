"""What code a page's numbers come from: sources without their prose, and the choices they read.

Runs are keyed by every byte of the sources (:mod:`envs.sources`). A page that is kept in the tree
needs a hash that a new comment does not change, or no page would ever be current. This one leaves
out comments, docstrings, layout, what the page's command does not import, live servers, and the
check of settings that come from elsewhere, which lets a command run or not.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from envs.errors import ConfigurationError
from envs.sources import HASH_LENGTH

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: pages are made, and evaluated, in one."""
_ALWAYS = ("envs", "baselines", "agents")
"""Choices name their classes by path, so that imports do not tell which of these are used."""
_NEVER = ("envs.live", "experiments.app.trust")
_PACKAGES = (*_ALWAYS, "experiments", "benchmarks", "examples", "pals_gym")
_NO_NUMBERS = ("debug", "device", "executor", "search", "tracker")
"""Groups of choices that no page's numbers depend on; ``search`` counts for its command."""
_OWN_GROUPS = {"figure": ("figures",), "search": ("tune",), "suite": (), "mixture": ("train",)}
"""Groups that only some commands read; none: those whose imports lead to evaluations."""


def step_code(command: str, root: Path = ROOT) -> str:
    """Returns the hash of the code and choices behind a command's numbers.

    Args:
        command: The command's module (``experiments.benchmark``).
        root: The checkout.

    Raises:
        ConfigurationError: There is no such module.
    """
    total = hashlib.sha256()
    found = _modules(root)
    for name in sorted(_reached(command, found)):
        total.update(f"{name}\0{_code(found[name])}".encode())
    for folder in sorted({found[name].parent for name in _reached(command, found)}):
        for file in sorted(folder.glob("*.yaml")):
            total.update(f"{file.relative_to(root)}\0{_content(file)}".encode())
    for file in _choices(root / "conf", command.rpartition(".")[2]):
        total.update(f"{file.relative_to(root)}\0{_content(file)}".encode())
    for file in sorted((root / "agents" / "bundles").glob("*/*")):
        if file.suffix != ".md":
            total.update(f"{file.name}\0".encode() + file.read_bytes())
    return total.hexdigest()[:HASH_LENGTH]


def _modules(root: Path) -> dict[str, Path]:
    files = [file for name in _PACKAGES for file in sorted((root / name).rglob("*.py"))]
    return {_dotted(file.relative_to(root)): file for file in files}


def _dotted(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _reached(command: str, found: dict[str, Path]) -> set[str]:
    """Returns the modules that a command may import, itself included."""
    if command not in found:
        raise ConfigurationError(f"no module {command!r} in this checkout")
    begin = [name for name in found if name.split(".")[0] in _ALWAYS and not _left_out(name)]
    begin += [name for name in found if name == command or name.startswith(f"{command}.")]
    reached: set[str] = set()
    while begin:
        name = begin.pop()
        if name in reached or _left_out(name):
            continue
        reached.add(name)
        begin += [other for other in _imports(found[name]) if other in found]
    return reached


def _left_out(name: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in _NEVER)


@cache
def _imports(file: Path) -> frozenset[str]:
    """Returns all names that a file imports, and the packages that they are in."""
    names: set[str] = set()
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names | {parent for name in names for parent in _parents(name)})


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


@cache
def _tree(file: Path) -> ast.Module:
    """Returns what a file does, without its docstrings, comments and layout."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_prose(part)] or [ast.Pass()]
    return tree


@cache
def _code(file: Path) -> str:
    return ast.dump(_tree(file))


def _is_prose(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _choices(folder: Path, command: str) -> Iterable[Path]:
    """Yields the files of choices that a command may read."""
    for file in sorted(folder.rglob("*.yaml")):
        parts = file.relative_to(folder).parts
        if len(parts) == 1:
            if file.stem in ("base", "run", "profile", command):
                yield file
        elif parts[0] in _OWN_GROUPS and _OWN_GROUPS[parts[0]]:
            if command in _OWN_GROUPS[parts[0]]:
                yield file
        elif parts[0] not in _NO_NUMBERS:
            yield file


@cache
def _content(file: Path) -> str:
    """Returns what a YAML file says, without its comments."""
    content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    return repr(content)
