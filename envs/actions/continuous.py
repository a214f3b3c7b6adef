"""Continuous knobs in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.actions.base import ActionEncoding
from envs.errors import ActionError
from envs.knobs import Knobs


@dataclass(kw_only=True)
class Continuous(ActionEncoding):
    """``Box(-1, 1)``: the cap on a linear scale, the batch limit on a logarithmic one.

    The range is that of the grid; values between its levels are allowed.
    """

    @property
    @override
    def space(self) -> gym.spaces.Box:
        return gym.spaces.Box(-1.0, 1.0, (len(self._sizes()),), dtype=np.float32)

    @override
    def decode(self, action: Any, current: Knobs) -> Knobs:
        given = self._real(action).astype(np.float64)
        knobs = len(self._sizes())
        if given.shape[-1:] != (knobs,):
            raise ActionError(f"action: must be {knobs} numbers, got {action}")
        if np.isnan(given).any():
            raise ActionError(f"action: must be numbers, got {action}")
        fraction = 0.5 * (np.clip(given, -1.0, 1.0) + 1.0)
        cap = self._caps[0] + fraction[..., 0] * (self._caps[-1] - self._caps[0])
        low, high = np.log2(self._seqs[0]), np.log2(self._seqs[-1])
        seqs = np.rint(np.exp2(low + fraction[..., 1] * (high - low))).astype(np.int64)
        if not self.sm_clock:
            return Knobs(cap, seqs, None)
        clock = self._clocks[0] + fraction[..., 2] * (self._clocks[-1] - self._clocks[0])
        return Knobs(cap, seqs, np.where(fraction[..., 2] >= 1.0, np.inf, clock))

    @override
    def encode(self, knobs: Knobs, current: Knobs) -> NDArray[np.float32]:
        levels = [self._caps, self._log2_seqs, self._clocks]
        parts = [
            _fraction(value, level[0], level[-1])
            for value, level in zip(self._placed(knobs), levels, strict=False)
        ]
        return np.stack(np.broadcast_arrays(*parts), axis=-1).astype(np.float32)


def _fraction(value: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Maps ``low..high`` onto ``-1..1``; a range of one point maps onto 1."""
    if high <= low:
        return np.ones_like(value)
    return np.asarray(2.0 * (np.clip(value, low, high) - low) / (high - low) - 1.0)
