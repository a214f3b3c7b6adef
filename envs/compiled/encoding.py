"""How an observation's numbers are brought to a range of about 0 to 1, compiled."""

from __future__ import annotations

import math
from typing import Any

from envs.compiled.jit import entry_point, inlined
from envs.compiled.records import Floats


@inlined
def encode(value: float, inverse_unit: float, log_factor: float, high: float) -> float:
    """Encodes one entry of an observation.

    Args:
        value: The entry in SI units.
        inverse_unit: What it is multiplied with first.
        log_factor: What the logarithm of one plus that is multiplied with; 0 stands for a
            linear scale.
        high: Upper bound of the result.
    """
    scaled = value * inverse_unit
    if log_factor > 0.0:
        scaled = math.log1p(scaled) * log_factor
    return min(scaled, high)


@entry_point()
def encode_rows(
    raw: Floats, inverse_unit: Floats, log_factor: Floats, high: Floats, out: Any
) -> None:
    """Encodes observations in SI units.

    Args:
        raw: Shape ``(n, entries)``.
        inverse_unit: Shape ``(entries,)``; see :func:`encode`.
        log_factor: The same.
        high: The same.
        out: Shape ``(n, entries)``, single precision.
    """
    for row in range(raw.shape[0]):
        for entry in range(raw.shape[1]):
            out[row, entry] = encode(
                raw[row, entry], inverse_unit[entry], log_factor[entry], high[entry]
            )
