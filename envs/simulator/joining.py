"""How the memory time and the compute time of a kernel join to its time."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", float, NDArray[np.float64])


def joined(memory_s: Number, compute_s: Number, overlap: float) -> Number:
    """Combines memory and compute time: their maximum at ``overlap`` 0, their sum at 1."""
    half = 0.5 * (memory_s - compute_s)
    total: Number = 0.5 * (memory_s + compute_s) + np.sqrt(
        half * half + overlap * memory_s * compute_s
    )
    return total
