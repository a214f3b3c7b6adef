"""Compiled functions, and the cache that keeps them between processes.

Numba's own cache looks at the file of a function only, so a change in another file that was
compiled into it goes unnoticed. Here an entry point is compiled again whenever the file of a
function that it calls, or a constant that one of them uses, has changed.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

# OpenMP's threads wait for each other by spinning, by default for milliseconds. Where another
# program holds a core, that takes the core from the very thread that is waited for.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

import numpy as np
from numba import config, get_num_threads, njit, set_num_threads
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    _CacheLocator,
)

from envs.compiled.code_cache import CodeFiles

_NUMBA: Any = config
INTERPRETED: bool = bool(_NUMBA.DISABLE_JIT)
"""Whether all of it runs in plain Python (``NUMBA_DISABLE_JIT=1``), as a debugger wants it."""
SERVERS_PER_THREAD = 32
"""Servers whose interval takes about as long as waking a thread (some 50 µs)."""
Function = TypeVar("Function", bound=Callable[..., Any])


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
        if INTERPRETED:
            return function
        compiled: Any = njit(nogil=True, error_model="numpy", parallel=parallel)(function)
        compiled._cache = _make_cache(function)
        return cast(Function, compiled)

    return compile_it


@contextmanager
def threads_for(count: int) -> Iterator[None]:
    """Runs parallel entry points on no more threads than pay for themselves.

    Handing work to a thread and waiting for it takes longer than simulating a few servers, and
    far longer where other programs keep the cores busy. ``NUMBA_NUM_THREADS`` bounds it too.

    Args:
        count: Number of servers to be stepped.
    """
    before = get_num_threads()
    wanted = min(before, max(1, count // SERVERS_PER_THREAD))
    set_num_threads(wanted)
    try:
        yield
    finally:
        set_num_threads(before)


def fingerprint(function: Callable[..., Any]) -> str:
    """Returns a digest of everything that is compiled into a function.

    That is the files of the function and of those it calls, and the constants they use.
    """
    files: set[Path] = set()
    constants: set[str] = set()
    seen: set[Any] = set()
    pending: list[Any] = [function]
    while pending:
        current = pending.pop()
        current = getattr(current, "py_func", current)
        if current in seen:
            continue
        seen.add(current)
        files.add(Path(inspect.getfile(current)))
        names = current.__code__.co_names
        places = [current.__globals__]
        places += [vars(place) for place in map(places[0].get, names) if inspect.ismodule(place)]
        for name in names:
            for place in places:
                value = place.get(name)
                if hasattr(value, "py_func"):
                    pending.append(value)
                elif isinstance(value, int | float | str | tuple | np.dtype):
                    constants.add(f"{name}={value!r}")
    digest = hashlib.sha256("\n".join(sorted(constants)).encode())
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


class _KernelLocator(_CacheLocator):  # type: ignore[misc]
    """Stamps compiled code with all its sources; where it lies is :mod:`code_cache`'s matter."""

    def __init__(self, function: Any) -> None:
        self._function = function

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _KernelLocator:
        return cls(py_func)

    def get_cache_path(self) -> str:
        return ""

    def ensure_cache_path(self) -> None:
        """Does nothing: the folder is made when code is kept."""

    def get_source_stamp(self) -> str:
        return fingerprint(self._function)

    def get_disambiguator(self) -> str:
        checked = " with bounds checked" if _NUMBA.BOUNDSCHECK else ""
        return hashlib.sha256(f"{inspect.getfile(self._function)}{checked}".encode()).hexdigest()[
            :12
        ]


class _KernelCacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes: list[Any] = [_KernelLocator]  # noqa: RUF012 - Numba's own protocol


class _KernelCache(FunctionCache):  # type: ignore[misc]
    _impl_class = _KernelCacheImpl

    def __init__(self, function: Any) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file: Any = CodeFiles(self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Returns the compiled form for a signature, or ``None`` if it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # code that another version of a library has left
            self._cache_file.flush()
            return None


_make_cache: Any = _KernelCache
