"""Arrays made from addresses, inside compiled code.

Numba counts references to every array that it passes on, with atomic operations; in a loop
over servers that costs more than the simulation. Views made from addresses are not counted.
Whoever passes the addresses keeps the memory alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from envs.compiled.jit import inlined

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _pointer_to(item: Any) -> Any:
    pointer: Any = types.CPointer

    def typer(_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return pointer(item)(address), codegen

    return typer


_double = intrinsic(_pointer_to(types.float64))
_single = intrinsic(_pointer_to(types.float32))
_int = intrinsic(_pointer_to(types.int64))


@inlined
def floats_at(address: int, length: int) -> Floats:
    """Returns the doubles at an address."""
    return carray(_double(address), (length,))


@inlined
def singles_at(address: int, length: int) -> NDArray[np.float32]:
    """Returns the single-precision numbers at an address."""
    return carray(_single(address), (length,))


@inlined
def ints_at(address: int, length: int) -> Ints:
    """Returns the integers at an address."""
    return carray(_int(address), (length,))


@inlined
def float_table_at(address: int, height: int, width: int) -> Floats:
    """Returns the table of doubles at an address."""
    return carray(_double(address), (height, width))


@inlined
def int_table_at(address: int, height: int, width: int) -> Ints:
    """Returns the table of integers at an address."""
    return carray(_int(address), (height, width))
