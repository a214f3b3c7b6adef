"""Numbers that programs hand over: real and finite, or refused in words."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray


def real_array(values: Any) -> NDArray[Any]:
    """Returns values as an array of real numbers; NumPy would drop a mask or an imaginary part.

    Raises:
        ValueError: They are something else; the message says what.
    """
    if np.ma.is_masked(values):
        raise ValueError("some entries are masked")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError("the rows differ in length") from error
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind == "O" and all(isinstance(item, numbers.Real) for item in array.flat):
        try:
            return array.astype(np.float64)
        except OverflowError as error:
            raise ValueError("a number is too large") from error
    kind = "objects" if array.dtype.kind == "O" else f"the type {array.dtype}"
    raise ValueError(f"{kind} instead of real numbers")


def is_finite(values: Any) -> bool:
    """Returns whether values are real numbers, each of them finite."""
    if isinstance(values, float):  # most are, and this is the fastest way
        return math.isfinite(values)
    try:
        return bool(np.isfinite(real_array(values)).all())
    except ValueError:
        return False
