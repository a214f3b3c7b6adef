"""Memory that is fetched into the processor's cache before it is needed.

Stepping many servers goes through more memory than a cache holds, and waits for it at every jump.
What the next server needs is known while this one is stepped, so it can be under way by then.
Fetching changes no number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from envs.compiled.jit import INTERPRETED, inlined

_LLVM: Any = cgutils  # untyped in Numba
LINE = 64
"""Bytes of a cache line."""
_TO_WRITE, _KEEP, _DATA = 1, 3, 1  # of LLVM's intrinsic: written soon, into every level, no code


def _typer(_context: Any, address: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        ir, pointer, word = _LLVM.ir, _LLVM.voidptr_t, _LLVM.int32_t
        kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = _LLVM.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.inttoptr(arguments[0], pointer)
        builder.call(function, [place, *(word(value) for value in (_TO_WRITE, _KEEP, _DATA))])
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(types.int64), codegen


def _in_python(address: int) -> int:
    return 0


_compiled: Any = intrinsic(_typer)
fetch: Callable[[int], int] = _in_python if INTERPRETED else _compiled
"""Has the cache line at an address fetched."""


@inlined
def fetch_bytes(address: int, size: int) -> None:
    """Has the cache lines of so many bytes fetched.

    Args:
        address: Where they begin; any address will do, nothing is read there.
        size: How many.
    """
    for offset in range(0, size, LINE):
        fetch(address + offset)
