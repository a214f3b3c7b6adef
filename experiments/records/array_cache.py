"""Arrays that take long to compute, kept in the cache folder."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from envs.kept_files import keep, read_kept

FloatArray = NDArray[np.float64]


def cached_array(
    folder: str, key: str, shape: tuple[int, ...], compute: Callable[[], FloatArray]
) -> FloatArray:
    """Returns an array from the cache, or computes it and keeps it.

    Args:
        folder: Folder in the cache folder.
        key: Hash of all that the array depends on.
        shape: Shape of the array. A file that is damaged or holds another shape is replaced.
        compute: Computes the array.
    """
    name = f"{key}.npy"
    kept = read_kept(folder, name)
    if kept is not None:
        array: FloatArray = np.load(io.BytesIO(kept), allow_pickle=False)
        if array.shape == shape:
            return array
    values = compute()
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    keep(folder, name, buffer.getvalue())
    return values
