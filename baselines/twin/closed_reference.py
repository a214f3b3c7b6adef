"""A twin of Baseline in a closed loop, where requests come when others finish."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from baselines.twin.cost import COLUMNS, OUTPUT
from baselines.twin.estimate import Estimate
from baselines.twin.hypotheses import Hypotheses
from baselines.twin.plans import FloatArray
from baselines.twin.reference import BaselineTwin
from envs.context import ControlContext
from envs.knobs import Knobs
from envs.observations import Observation
from envs.simulator.fleet import Fleet
from envs.workloads.base import RequestChunk

_MEMORY_S = 60.0
"""Time over which what is measured is compared with what is simulated."""


class ClosedLoopBaselineTwin(BaselineTwin):
    """What Baseline would deliver with as many requests in flight, which are its own.

    The requests that were observed came at the server's own pace: with them Baseline could hardly
    be ahead. Here it is simulated from the beginning of the episode on, in some samples, and the
    server itself beside it, under the knobs that are in force. What is measured of the server,
    over what is simulated, is how fast either really is. The first sample is what a violation is
    measured against: a mean would fluctuate less than Baseline does.

    Args:
        context: What is known about the server.
        hypotheses: Samples of Baseline's state, those of a server in a row.
        servers: How many real servers there are.
        prompt_weight: Tokens of output that a prompt token counts as.
    """

    def __init__(
        self, context: ControlContext, hypotheses: Hypotheses, servers: int, prompt_weight: float
    ) -> None:
        super().__init__(context, hypotheses, servers, prompt_weight)
        self._fleet = hypotheses.fleet
        self._samples = self._fleet.num_envs // servers
        self._everyone = np.arange(self._fleet.num_envs)
        self._shadow = Fleet(list(self._fleet.server_specs), latency=False, chunk=64)
        for row in self._everyone.tolist():
            self._shadow.use_model(row, self._fleet.model_of(row))
        self._prior = context.offered_tok_s * _MEMORY_S
        self._measured, self._simulated = (np.full(servers, self._prior) for _ in range(2))
        self._episodes = 0
        for index in range(servers):
            self.begin(index)

    @override
    def begin(self, index: int) -> None:
        super().begin(index)
        self._measured[index] = self._simulated[index] = self._prior
        self._episodes += 1
        for row in range(index * self._samples, (index + 1) * self._samples):
            workload = self._fleet.server_specs[row].workload.endless()
            for fleet in self._fleet, self._shadow:
                rng = np.random.default_rng([self._episodes, row])
                fleet.begin(row, workload.stream(rng, 1.0), workload.concurrency)

    @override
    def advance(
        self,
        cap_w: FloatArray,
        estimates: Sequence[Estimate],
        observed: Observation,
        output_tokens: FloatArray,
        planned: FloatArray,
    ) -> None:
        highest = np.full(len(cap_w), self._context.highest.max_num_seqs)
        rows = self._passes(self._fleet, Knobs(cap_w, highest, None))
        clock_mhz = observed.last_sm_clock_mhz if self._context.grid.sm_clocks_mhz else None
        own = self._passes(
            self._shadow, Knobs(observed.last_power_cap_w, observed.last_max_num_seqs, clock_mhz)
        )
        weight = self._context.interval_s / _MEMORY_S
        self._measured += output_tokens - weight * self._measured
        self._simulated += own[..., OUTPUT].mean(axis=1) - weight * self._simulated
        self._note(rows.mean(axis=1), rows[:, 0, OUTPUT] * self._faster())

    def _passes(self, fleet: Fleet, knobs: Knobs) -> FloatArray:
        """Lets an interval pass on all samples; returns what they did, by server and sample."""
        values = (None if own is None else np.repeat(own, self._samples) for own in knobs)
        fleet.apply(Knobs(*values))
        rows = fleet.advance(self._context.interval_s, self._everyone)[:, COLUMNS]
        return np.asarray(rows.reshape(-1, self._samples, len(COLUMNS)))

    def _faster(self) -> FloatArray:
        """Returns how many times as fast as in simulation the server is."""
        return np.asarray(np.clip(self._measured / np.maximum(self._simulated, 1.0), 0.25, 4.0))

    @override
    def ahead(
        self,
        cap_w: FloatArray,
        intervals: int,
        estimates: Sequence[Estimate],
        observed: Observation,
        futures: Sequence[Sequence[RequestChunk]],
    ) -> tuple[FloatArray, FloatArray]:
        interval_s = self._context.interval_s
        knobs = np.full((self._fleet.num_envs, 1, intervals, 3), np.inf)
        knobs[..., 0] = np.repeat(cap_w, self._samples)[:, None, None]
        knobs[..., 1] = self._context.highest.max_num_seqs
        forks = self._forks
        forks.fork(intervals * interval_s)
        tokens = forks.run(knobs, interval_s, COLUMNS)[:, 0, :, OUTPUT]
        shape = len(cap_w), self._samples
        return np.zeros(shape), tokens.reshape(*shape, intervals) * self._faster()[:, None, None]
