"""One index per knob: the paper's 6 by 6 grid by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.actions.base import ActionEncoding
from envs.knobs import Knobs


@dataclass(kw_only=True)
class Grid(ActionEncoding):
    """``MultiDiscrete``: an index into the power caps and one into the batch limits."""

    @property
    @override
    def space(self) -> gym.spaces.MultiDiscrete:
        return gym.spaces.MultiDiscrete(self._sizes())

    @override
    def decode(self, action: Any, current: Knobs) -> Knobs:
        index = self._whole(action, self._bounds)
        return self._at(index[..., 0], index[..., 1], index[..., 2] if self.sm_clock else None)

    @override
    def decode_one(self, action: Any, current: Knobs) -> Knobs:
        plain = type(action) is np.ndarray and action.dtype.kind in "iu"
        if plain and action.shape == self._bounds.shape:
            knobs = self._choice(tuple(action.tolist()))
            if knobs is not None:
                return knobs
        return super().decode_one(action, current)

    @override
    def encode(self, knobs: Knobs, current: Knobs) -> NDArray[np.int64]:
        return np.stack(np.broadcast_arrays(*self._indices(knobs)), axis=-1)

    @override
    def masks(self, cap_limit_w: float, current: Knobs) -> NDArray[np.bool_]:
        """Marks the allowed indices of each axis, in order."""
        others = np.ones(sum(self._sizes()[1:]), dtype=np.bool_)
        return np.concatenate([self._cap_allowed(cap_limit_w), others])
