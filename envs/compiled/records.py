"""Memory seen as records and arrays, by compiled code and by plain Python alike.

A record is a class of which only the annotations count: it names what lies in a piece of memory,
one word of 8 bytes after the other (``float``, ``int``, another record, or an array or table of
fixed size). :func:`dtype_of` makes NumPy's description of it; type checkers read the class.

Compiled code is given addresses instead of arrays: Numba counts references to every array that
it passes on, with atomic operations, and in a loop over servers that costs more than the
simulation. What is seen at an address is not counted; the caller that passes the address keeps the
memory alive. Where Numba is switched off (``NUMBA_DISABLE_JIT=1``) the same functions see the
same memory through ctypes, and an index beyond an array's end is an error.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import numpy as np
from numba import from_dtype, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from envs.compiled.jit import INTERPRETED, inlined

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WORD = 8
"""Bytes of a number."""
_FLOAT, _SINGLE, _INT = np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.int64)
_WORDS = {float: _FLOAT, int: _INT}


def dtype_of(record: type) -> np.dtype[Any]:
    """Returns how a record lies in memory.

    Args:
        record: A class whose annotations are ``float``, ``int``, records, or ``Annotated``
            with the dtype of the field.
    """
    hints = get_type_hints(record, include_extras=True)
    return _record((name, _format(hint)) for name, hint in hints.items())


def floats_named(names: Iterable[str]) -> np.dtype[Any]:
    """Returns the dtype of a record that holds one float for each name."""
    return _record((name, _FLOAT) for name in names)


def floats_of(*shape: int) -> np.dtype[Any]:
    """Returns the dtype of a field that is an array of floats."""
    return np.dtype((np.float64, shape))


def ints_of(*shape: int) -> np.dtype[Any]:
    """Returns the dtype of a field that is an array of integers."""
    return np.dtype((np.int64, shape))


def _record(fields: Iterable[tuple[str, np.dtype[Any]]]) -> np.dtype[Any]:
    return np.dtype((np.record, np.dtype(list(fields), align=True)))


def _format(hint: Any) -> np.dtype[Any]:
    if get_origin(hint) is Annotated:
        dtype: np.dtype[Any] = get_args(hint)[1]
        return dtype
    return _WORDS[hint] if hint in _WORDS else dtype_of(hint)


def pointer_to(dtype: np.dtype[Any]) -> Callable[[int], Any]:
    """Returns a function that turns an address into what ``carray`` takes."""
    if INTERPRETED:
        return lambda address: ctypes.c_void_p(int(address))
    make_pointer: Any = types.CPointer
    item = from_dtype(dtype)

    def typer(_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return make_pointer(item)(address), codegen

    pointer: Any = intrinsic(typer)
    return cast(Callable[[int], Any], pointer)


def _address_typer(_context: Any, record: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(arguments[0], context.get_value_type(types.int64))

    return types.int64(record), codegen


def _address_in_python(record: Any) -> int:
    return int(np.asarray(record).ctypes.data)


_address_compiled: Any = intrinsic(_address_typer)
address_of: Callable[[Any], int] = _address_in_python if INTERPRETED else _address_compiled
"""Returns the address of a record, in compiled code."""

_float, _single, _int = pointer_to(_FLOAT), pointer_to(_SINGLE), pointer_to(_INT)


@inlined
def floats_at(address: int, length: int) -> Floats:
    """Returns the doubles at an address."""
    return carray(_float(address), (length,), np.float64)


@inlined
def singles_at(address: int, length: int) -> NDArray[np.float32]:
    """Returns the single-precision numbers at an address."""
    return carray(_single(address), (length,), np.float32)


@inlined
def ints_at(address: int, length: int) -> Ints:
    """Returns the integers at an address."""
    return carray(_int(address), (length,), np.int64)


@inlined
def float_table_at(address: int, height: int, width: int) -> Floats:
    """Returns the table of doubles at an address."""
    return carray(_float(address), (height, width), np.float64)


@inlined
def int_table_at(address: int, height: int, width: int) -> Ints:
    """Returns the table of integers at an address."""
    return carray(_int(address), (height, width), np.int64)
