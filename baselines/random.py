"""Random knobs: the lower end of what controllers achieve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from typing_extensions import override

from baselines.base import KnobController
from envs.context import ControlContext
from envs.knobs import Knobs
from envs.observations import Observation
from envs.quantities import Count, Seed


@dataclass(kw_only=True)
class Random(KnobController):
    """Draws knobs uniformly from the grid.

    The draw is a function of the seed, the number of decisions so far and the observation:
    the same episode gives the same knobs, other episodes and other servers of a batch
    get others, and all state is in ``predict``'s.

    Attributes:
        seed: Seed of the draws.
        hold: Decisions for which the drawn knobs are kept.
    """

    seed: Seed = 0
    hold: Count = 1

    @override
    def bind(self, context: ControlContext) -> None:
        super().bind(context)
        self._choices = context.grid.choices

    @override
    def decide(self, observation: Observation, state: Any) -> tuple[Knobs, Any]:
        """Draws or keeps knobs; the state is the number of decisions and the knobs."""
        count, knobs = state or (0, self.context.highest)
        if count % self.hold == 0:
            seen = crc32(np.array(observation, dtype=np.float64).tobytes())
            rng = np.random.default_rng([self.seed, count, seen])
            knobs = self._choices[int(rng.integers(len(self._choices)))]
        return knobs, (count + 1, knobs)
