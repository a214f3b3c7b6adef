"""Steps up and down the grid."""

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
class Delta(ActionEncoding):
    """``MultiDiscrete([3, 3])``: per knob one level down (0), stay (1) or one level up (2)."""

    @property
    @override
    def space(self) -> gym.spaces.MultiDiscrete:
        return gym.spaces.MultiDiscrete([3] * len(self._sizes()))

    @override
    def decode(self, action: Any, current: Knobs) -> Knobs:
        step = self._whole(action, np.full(len(self._sizes()), 3)) - 1
        moved = [
            np.clip(index + step[..., axis], 0, size - 1)
            for axis, (index, size) in enumerate(
                zip(self._indices(current), self._sizes(), strict=True)
            )
        ]
        return self._at(moved[0], moved[1], moved[2] if self.sm_clock else None)

    @override
    def encode(self, knobs: Knobs, current: Knobs) -> NDArray[np.int64]:
        """Moves each knob by at most one level towards its value."""
        pairs = zip(self._indices(knobs), self._indices(current), strict=True)
        moves = [np.sign(wanted - here) + 1 for wanted, here in pairs]
        return np.stack(np.broadcast_arrays(*moves), axis=-1)

    @override
    def masks(self, cap_limit_w: float, current: Knobs) -> NDArray[np.bool_]:
        """Marks the allowed moves of each axis; going down is always allowed."""
        allowed = self._cap_allowed(cap_limit_w)
        here = int(self._indices(current)[0])
        cap = [True, bool(allowed[here]), bool(allowed[min(here + 1, allowed.size - 1)])]
        others = np.ones(3 * (len(self._sizes()) - 1), dtype=np.bool_)
        return np.concatenate([np.array(cap), others])
