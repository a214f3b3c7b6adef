"""One index over all combinations of knobs."""

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
class Joint(ActionEncoding):
    """``Discrete``: an index into the list of all knobs of the grid, cap slowest."""

    @property
    @override
    def space(self) -> gym.spaces.Discrete:
        return gym.spaces.Discrete(int(np.prod(self._sizes())))

    @override
    def decode(self, action: Any, current: Knobs) -> Knobs:
        parts = np.unravel_index(self._whole(action, int(np.prod(self._sizes()))), self._sizes())
        return self._at(parts[0], parts[1], parts[2] if self.sm_clock else None)

    @override
    def decode_one(self, action: Any, current: Knobs) -> Knobs:
        if isinstance(action, int | np.integer) and not isinstance(action, bool):
            rest, index = int(action), []
            for level in reversed(self._levels):
                rest, place = divmod(rest, len(level))
                index.append(place)
            if rest == 0:  # neither negative nor beyond the last
                knobs = self._choice(tuple(reversed(index)))
                assert knobs is not None
                return knobs
        return super().decode_one(action, current)

    @override
    def encode(self, knobs: Knobs, current: Knobs) -> Any:
        index = np.ravel_multi_index(
            tuple(np.broadcast_arrays(*self._indices(knobs))), self._sizes()
        )
        return index if np.ndim(index) else np.int64(index)

    @override
    def masks(self, cap_limit_w: float, current: Knobs) -> NDArray[np.bool_]:
        per_cap = int(np.prod(self._sizes()[1:]))
        return np.repeat(self._cap_allowed(cap_limit_w), per_cap)
