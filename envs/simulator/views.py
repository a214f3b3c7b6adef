"""Array views made from addresses inside compiled code.

Numba counts references to every array that it passes on, with atomic operations; in a loop
over servers that costs more than the simulation. Views made from addresses are not counted.
Whoever passes the addresses keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray


def _pointer_to(item: Any) -> Any:
    def typer(_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(item)(address), codegen

    return typer


_float_pointer = intrinsic(_pointer_to(types.float64))
_int_pointer = intrinsic(_pointer_to(types.int64))


@njit(cache=True, nogil=True, inline="always")
def floats(address: int, row: int, width: int) -> NDArray[np.float64]:
    """Returns row ``row`` of a float64 array with ``width`` columns."""
    return carray(_float_pointer(address + 8 * row * width), (width,))


@njit(cache=True, nogil=True, inline="always")
def ints(address: int, row: int, width: int) -> NDArray[np.int64]:
    """Returns row ``row`` of an int64 array with ``width`` columns."""
    return carray(_int_pointer(address + 8 * row * width), (width,))


@njit(cache=True, nogil=True, inline="always")
def float_table(address: int, row: int, height: int, width: int) -> NDArray[np.float64]:
    """Returns entry ``row`` of a float64 array of ``height`` by ``width`` tables."""
    return carray(_float_pointer(address + 8 * row * height * width), (height, width))


@njit(cache=True, nogil=True, inline="always")
def int_table(address: int, row: int, height: int, width: int) -> NDArray[np.int64]:
    """Returns entry ``row`` of an int64 array of ``height`` by ``width`` tables."""
    return carray(_int_pointer(address + 8 * row * height * width), (height, width))
