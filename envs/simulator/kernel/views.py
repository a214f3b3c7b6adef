"""A server's row seen as arrays, inside compiled code."""

from __future__ import annotations

from envs.compiled.jit import inlined
from envs.compiled.pointers import Floats, Ints, float_table_at, floats_at, int_table_at, ints_at
from envs.latency import LATENCY_BUCKETS
from envs.simulator.kernel import layout as at
from envs.simulator.step_layout import COEFFICIENTS
from envs.telemetry import NUM_TELEMETRY


@inlined
def numbers_of(server: int) -> Floats:
    """Returns the floating-point state of the server whose row begins at an address."""
    return floats_at(server, at.NUM_NUMBERS)


@inlined
def counts_of(server: int) -> Ints:
    """Returns the integer state of a server."""
    return ints_at(server + 8 * at.NUM_NUMBERS, at.NUM_COUNTS)


@inlined
def slots_of(counts: Ints) -> Ints:
    """Returns the admitted requests, shape ``(CAPACITY, NUM_SLOT_FIELDS)``."""
    return int_table_at(counts[at.SLOTS_AT], counts[at.CAPACITY], at.NUM_SLOT_FIELDS)


@inlined
def stamps_of(counts: Ints) -> Floats:
    """Returns the moments of the admitted requests, shape ``(CAPACITY, NUM_STAMPS)``."""
    return float_table_at(counts[at.STAMPS_AT], counts[at.CAPACITY], at.NUM_STAMPS)


@inlined
def list_at(counts: Ints, address: int) -> Ints:
    """Returns the list of slots at a column of ``counts``, such as ``FREE_AT``."""
    return ints_at(counts[address], counts[at.CAPACITY])


@inlined
def finishing_of(counts: Ints) -> Ints:
    """Returns the list of decoding requests, sorted by when they finish."""
    return ints_at(counts[at.FINISHING_AT], 2 * counts[at.CAPACITY])


@inlined
def phases_of(counts: Ints) -> Ints:
    """Returns how many decoding requests need a block, by step modulo the block size."""
    return ints_at(counts[at.PHASES_AT], counts[at.BLOCK_SIZE])


@inlined
def times_of(counts: Ints) -> Floats:
    """Returns the arrival times of queued and coming requests, as far as ``END``."""
    return floats_at(counts[at.TIMES_AT], counts[at.END])


@inlined
def lengths_of(counts: Ints) -> Ints:
    """Returns prompt and output lengths of the same requests, shape ``(END, 2)``."""
    return int_table_at(counts[at.LENGTHS_AT], counts[at.END], 2)


@inlined
def samples_of(counts: Ints) -> Floats:
    """Returns the interval's latency samples, shape ``(3, SAMPLES)``."""
    return float_table_at(counts[at.SAMPLES_AT], 3, at.SAMPLES)


@inlined
def totals_of(counts: Ints) -> Ints:
    """Returns the episode's latency counts, shape ``(3, LATENCY_BUCKETS)``."""
    return int_table_at(counts[at.TOTALS_AT], 3, LATENCY_BUCKETS)


@inlined
def model_of(counts: Ints) -> Floats:
    """Returns the server's step model."""
    return floats_at(counts[at.MODEL_AT], COEFFICIENTS)


@inlined
def telemetry_of(counts: Ints) -> Floats:
    """Returns the row that the telemetry is written to."""
    return floats_at(counts[at.TELEMETRY_AT], NUM_TELEMETRY)
