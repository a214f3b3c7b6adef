"""A server's row seen as arrays, inside compiled code.

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

from envs.compiled import inlined
from envs.latency import LATENCY_BUCKETS
from envs.simulator.kernel import layout as at
from envs.simulator.step_model import COEFFICIENTS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _pointer_to(item: Any) -> Any:
    pointer: Any = types.CPointer

    def typer(_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return pointer(item)(address), codegen

    return typer


_float_pointer = intrinsic(_pointer_to(types.float64))
_int_pointer = intrinsic(_pointer_to(types.int64))


@inlined
def numbers_of(server: int) -> Floats:
    """Returns the floating-point state of the server whose row begins at an address."""
    return carray(_float_pointer(server), (at.NUM_NUMBERS,))


@inlined
def counts_of(server: int) -> Ints:
    """Returns the integer state of a server."""
    return carray(_int_pointer(server + 8 * at.NUM_NUMBERS), (at.NUM_COUNTS,))


@inlined
def slots_of(counts: Ints) -> Ints:
    """Returns the admitted requests, shape ``(CAPACITY, NUM_SLOT_FIELDS)``."""
    return carray(_int_pointer(counts[at.SLOTS_AT]), (counts[at.CAPACITY], at.NUM_SLOT_FIELDS))


@inlined
def stamps_of(counts: Ints) -> Floats:
    """Returns the moments of the admitted requests, shape ``(CAPACITY, NUM_STAMPS)``."""
    return carray(_float_pointer(counts[at.STAMPS_AT]), (counts[at.CAPACITY], at.NUM_STAMPS))


@inlined
def list_at(counts: Ints, address: int) -> Ints:
    """Returns the list of slots at a column of ``counts``, such as ``FREE_AT``."""
    return carray(_int_pointer(counts[address]), (counts[at.CAPACITY],))


@inlined
def finishing_of(counts: Ints) -> Ints:
    """Returns the list of decoding requests, sorted by when they finish."""
    return carray(_int_pointer(counts[at.FINISHING_AT]), (2 * counts[at.CAPACITY],))


@inlined
def phases_of(counts: Ints) -> Ints:
    """Returns how many decoding requests need a block, by step modulo the block size."""
    return carray(_int_pointer(counts[at.PHASES_AT]), (counts[at.BLOCK_SIZE],))


@inlined
def times_of(counts: Ints) -> Floats:
    """Returns the arrival times of queued and coming requests, as far as ``END``."""
    return carray(_float_pointer(counts[at.TIMES_AT]), (counts[at.END],))


@inlined
def lengths_of(counts: Ints) -> Ints:
    """Returns prompt and output lengths of the same requests, shape ``(END, 2)``."""
    return carray(_int_pointer(counts[at.LENGTHS_AT]), (counts[at.END], 2))


@inlined
def samples_of(counts: Ints) -> Floats:
    """Returns the interval's latency samples, shape ``(3, SAMPLES)``."""
    return carray(_float_pointer(counts[at.SAMPLES_AT]), (3, at.SAMPLES))


@inlined
def totals_of(counts: Ints) -> Ints:
    """Returns the episode's latency counts, shape ``(3, LATENCY_BUCKETS)``."""
    return carray(_int_pointer(counts[at.TOTALS_AT]), (3, LATENCY_BUCKETS))


@inlined
def model_of(counts: Ints) -> Floats:
    """Returns the server's step model."""
    return carray(_float_pointer(counts[at.MODEL_AT]), (COEFFICIENTS,))


@inlined
def telemetry_of(counts: Ints) -> Floats:
    """Returns the row that the telemetry is written to."""
    return carray(_float_pointer(counts[at.TELEMETRY_AT]), (at.NUM_TELEMETRY,))
