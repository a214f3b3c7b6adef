"""Arrays that take long to compute, kept in files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.cache import atomic_write_bytes

FloatArray = NDArray[np.float64]


def cached_array(
    file: Path, shape: tuple[int, ...], compute: Callable[[], FloatArray]
) -> FloatArray:
    """Returns an array from a file, or computes it and writes the file.

    Args:
        file: Where the array is kept; its name must hold a hash of all that the array depends on.
        shape: Shape of the array. A file that is damaged or holds another shape is replaced.
        compute: Computes the array.
    """
    try:
        kept: FloatArray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        pass  # there is none, or a damaged one
    else:
        if kept.shape == shape:
            return kept
    values = compute()
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    atomic_write_bytes(file, buffer.getvalue())
    return values
