"""What will happen in an episode: for the controller that is allowed to know it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.objectives.conditions import Conditions
from envs.objectives.schedule import Schedule
from envs.simulator.server_spec import ServerSpec


@dataclass(frozen=True)
class Future:
    """All that decides about an episode but the knobs.

    Attributes:
        server_spec: The simulated server.
        seed: Seed of its requests and physics.
        schedule: What is demanded in each interval.
        randomize: Whether its physics are drawn for the episode.
    """

    server_spec: ServerSpec
    seed: int
    schedule: Schedule
    randomize: bool

    def conditions(self) -> NDArray[np.float64]:
        """Returns the demands by interval, shape ``(intervals, len(Conditions._fields))``."""
        lengths = np.diff(self.schedule.begins)
        table: NDArray[np.float64] = np.repeat(self.schedule.rows, lengths, axis=0)
        assert table.shape[1] == len(Conditions._fields)
        return table
