"""Converts the power budgets of many servers at once into caps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.context import ControlContext
from envs.objectives.objective import power_in_scope

FloatArray = NDArray[np.float64]


class PowerScopes:
    """What each server's power budget covers and which cap it allows; both are linear.

    Args:
        contexts: What a controller knows about each server.
    """

    def __init__(self, contexts: Sequence[ControlContext]) -> None:
        # Two points give each line, whatever it covers.
        self._cap = np.array([[float(c.cap_limit_w(w)) for w in (0.0, 1.0)] for c in contexts])
        self._power = np.array(
            [
                [float(power_in_scope(w, c.power_scope, c.system_power)) for w in (0.0, 1.0)]
                for c in contexts
            ]
        )

    def cap_limit_w(self, budgets_w: Any) -> FloatArray:
        """Returns the highest cap per GPU within each server's budget; ``inf`` for no budget."""
        return _at(self._cap, budgets_w)

    def power_w(self, gpus_w: Any) -> FloatArray:
        """Returns the power that each budget covers, from that of all GPUs of each server."""
        return _at(self._power, gpus_w)


def _at(points: FloatArray, values: Any) -> FloatArray:
    zero, one = points.T
    line: FloatArray = zero + (one - zero) * np.asarray(values)
    return line
