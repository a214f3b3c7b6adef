"""An episode's conditions, kept as stretches over which they stay the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.objectives.objective import Objective
from envs.system import RatedServer


@dataclass(frozen=True)
class Schedule:
    """Conditions of every interval, stored as their changes to save memory.

    Attributes:
        begins: Interval at which each stretch begins, and the number of intervals, after
            which it all begins again; shape ``(stretches + 1,)``.
        rows: Conditions of each stretch, shape ``(stretches, len(Conditions._fields))``.
    """

    begins: NDArray[np.int64]
    rows: NDArray[np.float64]

    @classmethod
    def of(cls, table: NDArray[np.float64]) -> Schedule:
        """Returns the schedule of a table with one row per interval."""
        changes = np.flatnonzero((table[1:] != table[:-1]).any(axis=1)) + 1
        begins = np.concatenate([[0], changes, [len(table)]]).astype(np.int64)
        return cls(begins, np.ascontiguousarray(table[begins[:-1]]))


class Planner:
    """Makes the conditions of episodes; those without random draws only once.

    Args:
        objective: What is demanded.
        system: The server, for its capacity, offered load and highest power.
        intervals: Number of control intervals; later the conditions repeat.
        interval_s: Length of an interval in seconds.
    """

    def __init__(
        self, objective: Objective, system: RatedServer, intervals: int, interval_s: float
    ) -> None:
        self._objective = objective
        self._system = system
        self._intervals = intervals
        self._interval_s = interval_s
        self._fixed: tuple[Any, Schedule] | None = None

    def plan(self, seed: int) -> Schedule:
        """Returns the conditions of an episode; every random draw follows from ``seed``."""
        system = self._system
        facts = (
            system.offered_tok_s, system.capacity_tok_s, system.num_gpus, system.system_power,
            system.knob_limits.power_cap_max_w,
        )  # fmt: skip
        if self._fixed is not None and self._fixed[0] == facts:
            return self._fixed[1]
        rng = np.random.default_rng(seed)
        untouched = rng.bit_generator.state
        schedule = Schedule.of(
            self._objective.schedule(system, rng, self._intervals, self._interval_s)
        )
        if rng.bit_generator.state == untouched:  # nothing was drawn, so every episode has it
            self._fixed = facts, schedule
        return schedule
