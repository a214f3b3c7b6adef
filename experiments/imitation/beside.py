"""Baseline beside servers under way: what it has delivered, will deliver, and spends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.compiled.window import window_length
from envs.context import ControlContext
from envs.knobs import Knobs
from envs.serving import episode_seeds
from envs.simulator.fleet import Fleet
from envs.simulator.forks import Forks
from envs.simulator.server_spec import ServerSpec
from envs.telemetry import COLUMN

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_SPENT = np.array([COLUMN.output_tokens, COLUMN.prompt_tokens, COLUMN.energy_gpu_j])


class Spending(NamedTuple):
    """What Baseline does on some servers.

    Attributes:
        tokens: Output tokens in each coming interval, shape ``(servers, intervals)``.
        joule_per_token: Its energy for a token so far and within the horizon, ``(servers,)``.
        power_w: Its mean power in that time, ``(servers,)``.
    """

    tokens: FloatArray
    joule_per_token: FloatArray
    power_w: FloatArray


class BaselineFleet:
    """The same servers with the same requests, under the highest knobs within the power budget.

    Args:
        specs: What is simulated.
        contexts: What a controller knows about each server.
        randomize: Whether their physics are drawn for every episode.
        at_once: How many servers are looked ahead for in one call.
        prompt_weight: Tokens of output that a prompt token counts as.

    Attributes:
        past_tokens: Output tokens of the intervals of the QoS window, oldest first, shape
            ``(servers, window)``; 0 where nothing has been seen.
    """

    def __init__(
        self,
        specs: Sequence[ServerSpec],
        contexts: Sequence[ControlContext],
        *,
        randomize: bool,
        at_once: int,
        prompt_weight: float,
    ) -> None:
        self._fleet = Fleet(list(specs), randomize=randomize, latency=False)
        self._forks = Forks(self._fleet, 1, at_once)
        self._interval_s = contexts[0].interval_s
        self._weight = prompt_weight
        self._seqs = np.array([context.highest.max_num_seqs for context in contexts])
        window = max(window_length(one.qos.window_s, self._interval_s) for one in contexts)
        self.past_tokens: FloatArray = np.zeros((len(specs), window))
        self._sums = np.zeros((len(specs), 3))
        self._intervals = 0
        self._everyone = np.arange(len(specs))

    def begin(self, seeds: Sequence[int]) -> None:
        """Begins the episodes that an environment begins with these seeds."""
        for index, seed in enumerate(seeds):
            generator, _ = gym.utils.seeding.np_random(seed)
            self._fleet.reset(index, episode_seeds(generator)[0])
        self.past_tokens[:] = 0.0
        self._sums[:] = 0.0
        self._intervals = 0

    def advance(self, caps_w: FloatArray) -> None:
        """Lets an interval pass under some caps, shape ``(servers,)``."""
        self._fleet.apply(Knobs(caps_w, self._seqs, None))
        rows = self._fleet.advance(self._interval_s, self._everyone)[:, _SPENT]
        self._sums += rows
        self._intervals += 1
        self.past_tokens[:, :-1] = self.past_tokens[:, 1:]
        self.past_tokens[:, -1] = rows[:, 0]

    def ahead(self, which: IntArray, caps_w: FloatArray, intervals: int) -> Spending:
        """Looks ahead for some servers, under caps of shape ``(len(which),)``."""
        knobs = np.stack([caps_w, self._seqs[which], np.full(len(which), np.inf)], axis=-1)
        self._forks.fork(intervals * self._interval_s, which=which)
        plan = np.repeat(knobs[:, None, None, :], intervals, axis=2)
        rows = self._forks.run(plan, self._interval_s, _SPENT)[:, 0]
        output, prompt, energy_j = (self._sums[which] + rows.sum(axis=1)).T
        seconds = (self._intervals + intervals) * self._interval_s
        work = np.maximum(output + self._weight * prompt, 1.0)
        return Spending(rows[..., 0], energy_j / work, np.maximum(energy_j / seconds, 1.0))
