"""Compiled functions, and the cache that keeps them between processes.

Numba's own cache looks at the file of a function only, so a change in another file that was
compiled into it goes unnoticed. Here an entry point is compiled again whenever the file of a
function that it calls, or a constant that one of them uses, has changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar, cast

# OpenMP's threads wait for each other by spinning, by default for milliseconds. Where another
# program holds a core, that takes the core from the very thread that is waited for.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

import numpy as np
from numba import config, get_num_threads, njit, set_num_threads, types
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    _CacheLocator,
)

from envs.compiled.code_cache import CodeFiles, code_folder
from envs.compiled.parts import PartCompiler
from envs.compiled.turns import Turn

_NUMBA: Any = config
_NJIT: Any = njit  # its types leave out what is not for Python
_TYPES: Any = types
INTERPRETED: bool = bool(_NUMBA.DISABLE_JIT)
"""Whether all of it runs in plain Python (``NUMBA_DISABLE_JIT=1``), as a debugger wants it."""
SERVERS_PER_THREAD = 32
"""Servers whose interval takes about as long as waking a thread (some 50 µs)."""
Function = TypeVar("Function", bound=Callable[..., Any])


def _find_scipy_only() -> None:
    """Has Numba find SciPy, which it does by importing its linear algebra, instead of that.

    It does so for functions that nothing here uses, and it takes a fifth of the time to the first
    step. Code that does use them has it imported when it is compiled, as ever.
    """
    linalg: Any = importlib.import_module("numba.np.linalg")
    imports = linalg.ensure_blas
    if importlib.util.find_spec("scipy") is not None:
        linalg.ensure_blas = lambda: None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = imports


_find_scipy_only()


def kernel(function: Function) -> Function:
    """Compiles a part of an entry point: division by zero gives infinity, as in NumPy.

    Only other compiled functions can call it.
    """
    return _part(function, forceinline=False)


def inlined(function: Function) -> Function:
    """Compiles a part of an entry point into its callers."""
    return _part(function, forceinline=True)


def _part(function: Function, *, forceinline: bool) -> Function:
    if INTERPRETED:
        return function
    compiled: Any = _NJIT(
        nogil=True, error_model="numpy", forceinline=forceinline, pipeline_class=PartCompiler,
        no_cpython_wrapper=True, no_cfunc_wrapper=True,
    )(function)  # fmt: skip
    template = compiled.get_call_template

    def without_literals(args: Any, kws: Any) -> Any:
        # A form of its own for each constant that is handed on would be compiled otherwise.
        plain = {name: _TYPES.unliteral(kind) for name, kind in kws.items()}
        return template(tuple(_TYPES.unliteral(kind) for kind in args), plain)

    compiled.get_call_template = without_literals
    return cast(Function, compiled)


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
    with _parallel:
        if wanted == before:  # setting it takes as long as simulating a few servers
            yield
            return
        set_num_threads(wanted)
        try:
            yield
        finally:
            set_num_threads(before)


def _one_at_a_time() -> AbstractContextManager[Any]:
    """Returns what keeps threads apart that would run parallel code at the same time.

    The layer that survives a fork ends the process if they do.
    """
    return threading.Lock() if _NUMBA.THREADING_LAYER == "workqueue" else nullcontext()


_parallel = _one_at_a_time()


def _in_forked_child() -> None:
    global _parallel
    _parallel = _one_at_a_time()  # a thread that held the old one is not here


os.register_at_fork(after_in_child=_in_forked_child)


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
    """Stamps compiled code with all its sources, for :mod:`envs.compiled.code_cache`."""

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
        found = self._load(sig, target_context)
        if found is None:
            _TURN.take(code_folder())
            found = self._load(sig, target_context)  # another process may have compiled it
            if found is not None:
                _TURN.give()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps what was compiled; other processes need not compile it."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        finally:
            _TURN.give()

    def _load(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # code that another version of a library has left
            self._cache_file.flush()
            return None


_make_cache: Any = _KernelCache
_TURN = Turn()
