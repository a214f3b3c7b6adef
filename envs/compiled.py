"""Compiled functions, and the cache that keeps them between processes.

Numba's own cache looks at the file of a function only, so a change in another file that was
compiled into it goes unnoticed. Here an entry point is compiled anew whenever any file of the
folder it lies in, or of the modules it names, has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from envs.cache import cache_dir

Function = TypeVar("Function", bound=Callable[..., Any])
_ENVS = Path(__file__).resolve().parent


def kernel(function: Function) -> Function:
    """Compiles a part of an entry point: division by zero gives infinity, as in NumPy."""
    return cast(Function, njit(nogil=True, error_model="numpy")(function))


def inlined(function: Function) -> Function:
    """Compiles a part of an entry point into its callers."""
    return cast(Function, njit(nogil=True, error_model="numpy", forceinline=True)(function))


def entry_point(*, parallel: bool = False) -> Callable[[Function], Function]:
    """Compiles a function that Python calls and keeps the result in the cache folder.

    Args:
        parallel: Whether ``prange`` loops of the function run on all cores.
    """

    def compile_it(function: Function) -> Function:
        compiled: Any = njit(nogil=True, error_model="numpy", parallel=parallel)(function)
        compiled._cache = _make_cache(function)
        return cast(Function, compiled)

    return compile_it


def _digest(folder: Path) -> str:
    """Returns a digest of all sources that entry points may have compiled into them."""
    files = {*folder.glob("*.py"), *folder.parent.glob("*.py"), *_ENVS.glob("*.py")}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


class _KernelLocator(_CacheLocator):  # type: ignore[misc]
    """Places compiled code in the project's cache folder, stamped with all its sources."""

    def __init__(self, source: Path) -> None:
        self._source = source

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _KernelLocator:
        return cls(Path(py_file).resolve())

    def get_cache_path(self) -> str:
        folder = cache_dir() / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def get_source_stamp(self) -> str:
        return _digest(self._source.parent)

    def get_disambiguator(self) -> str:
        return hashlib.sha256(str(self._source).encode()).hexdigest()[:12]


class _KernelCacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes: list[Any] = [_KernelLocator]  # noqa: RUF012 - Numba's own protocol


class _KernelCache(FunctionCache):  # type: ignore[misc]
    _impl_class = _KernelCacheImpl


_make_cache: Any = _KernelCache
