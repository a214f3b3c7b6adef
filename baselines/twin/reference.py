"""A twin of Baseline, for which the server's requests are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from baselines.twin.cost import COLUMNS, ENERGY, OUTPUT, PROMPT, RUNNING, SENSOR
from baselines.twin.estimate import Estimate, single
from baselines.twin.hypotheses import Hypotheses
from baselines.twin.plans import FloatArray
from envs.compiled.window import window_length
from envs.context import ControlContext
from envs.observations import Observation
from envs.simulator.forks import Forks
from envs.workloads.base import RequestChunk

_FASTEST = 8.0
"""Largest factor by which Baseline is believed to be faster."""


class BaselineTwin:
    """What the Baseline strategy would deliver, which is what a violation is measured against.

    It is never slower than the server, so that it has finished what the server has finished: of
    those requests it has produced as many tokens as were measured, whatever their lengths. Of the
    others it is ahead by some tokens, which the ledger counts. So only its pace, the tokens that a
    request gets in an interval, has to be simulated: it is the server's own, which was measured,
    times the factor by which Baseline is the faster one in simulation.

    Args:
        context: What is known about the server.
        hypotheses: Samples of Baseline's state.
        servers: How many real servers there are.
        prompt_weight: Tokens of output that a prompt token counts as.

    Attributes:
        past_tokens: Output tokens of the last intervals, shape ``(servers, window)``.
    """

    def __init__(
        self, context: ControlContext, hypotheses: Hypotheses, servers: int, prompt_weight: float
    ) -> None:
        self._context, self._hypotheses = context, hypotheses
        self._prompt_weight = prompt_weight
        window = window_length(context.qos.window_s, context.interval_s)
        self.past_tokens = np.zeros((servers, window))
        self._forks = Forks(hypotheses.fleet, 1)
        engine = hypotheses.fleet.server_specs[0].spec
        self._replicas = engine.replicas
        self._expected = np.zeros((servers, 1, len(COLUMNS)))
        self._passed = 0
        self._ahead_tokens, self._power_w = np.zeros(servers), np.zeros(servers)
        self._energy_j, self._work, self._seconds = (np.zeros(servers) for _ in range(3))

    def begin(self, index: int) -> None:
        """Starts an episode of one server."""
        self.past_tokens[index] = 0.0
        self._ahead_tokens[index] = self._power_w[index] = 0.0
        self._energy_j[index] = self._work[index] = self._seconds[index] = 0.0

    def advance(
        self,
        cap_w: FloatArray,
        estimates: Sequence[Estimate],
        observed: Observation,
        output_tokens: FloatArray,
        planned: FloatArray,
    ) -> None:
        """Lets an interval pass.

        Args:
            cap_w: The highest caps that the budget left, shape ``(servers,)``.
            estimates: What is believed about the servers.
            observed: What was observed of them.
            output_tokens: What they produced, shape ``(servers,)``.
            planned: What they were expected to bring about since the last plan, shape ``(servers,
                intervals, len(COLUMNS))``.
        """
        # The step that was under way is missing in the first interval of a future.
        place = min(max(self._passed, 1), self._expected.shape[1] - 1)
        expected = self._expected[:, place]
        self._passed += 1
        paces = _paces(self._expected)
        faster = np.clip(paces / np.maximum(_paces(planned), 1e-9), 1.0, _FASTEST)
        seqs = self._context.highest.max_num_seqs
        same = (observed.last_power_cap_w >= cap_w - 0.5) & (observed.last_max_num_seqs >= seqs)
        free = observed.last_sm_clock_mhz >= self._context.limits.sm_clock_max_mhz * (1.0 - 1e-4)
        faster = np.where(same & free, 1.0, faster)
        before = self._ahead_tokens
        self._ahead_tokens = np.array(
            [
                estimate.ledger.advance_baseline(
                    float(faster[index] * estimate.ledger.pace or paces[index]),
                    self._places(single(observed, index)),
                    estimate.now_s,
                    self._context.interval_s,
                )
                for index, estimate in enumerate(estimates)
            ]
        )
        delivered = output_tokens + self._ahead_tokens - before
        self._note(expected, delivered)

    def _note(self, expected: FloatArray, delivered: FloatArray) -> None:
        """Adds an interval to what it has delivered and spent."""
        self.past_tokens = np.concatenate([self.past_tokens[:, 1:], delivered[:, None]], axis=1)
        self._power_w = expected[:, SENSOR]
        self._energy_j += expected[:, ENERGY]
        self._work += expected[:, OUTPUT] + self._prompt_weight * expected[:, PROMPT]
        self._seconds += self._context.interval_s

    def _places(self, observed: Observation) -> float:
        """Returns how many requests Baseline can serve at once: as many as fit the cache."""
        places = self._context.highest.max_num_seqs * self._replicas
        if observed.waiting > 0 and observed.running < observed.last_max_num_seqs * self._replicas:
            return max(min(float(places), float(observed.running)), 1.0)
        return float(places)

    def ahead(
        self,
        cap_w: FloatArray,
        intervals: int,
        estimates: Sequence[Estimate],
        observed: Observation,
        futures: Sequence[Sequence[RequestChunk]],
    ) -> tuple[FloatArray, FloatArray]:
        """Simulates Baseline's future, in the samples in which the server's own is simulated.

        Args:
            cap_w: The highest caps that the budget leaves, shape ``(servers,)``.
            intervals: How many intervals.
            estimates: What is believed about the servers.
            observed: What was observed of them.
            futures: Requests to come for each server and sample, with times from now.

        Returns:
            Output tokens that it is ahead by, beyond what is expected on average, shape
            ``(servers, samples)``; and its output tokens to come, shape
            ``(servers, samples, intervals)``.
        """
        power_w = np.where(self._power_w > 0.0, self._power_w, observed.power_w)
        highest = observed._replace(power_cap_w=cap_w, power_w=power_w)
        ahead = np.stack(
            [
                self._hypotheses.write_baseline(
                    index,
                    own.ledger,
                    own.outputs,
                    single(highest, index),
                    own.now_s,
                    futures[index],
                )
                for index, own in enumerate(estimates)
            ]
        )
        servers, samples = ahead.shape
        interval_s = self._context.interval_s
        self._forks.fork(intervals * interval_s)
        knobs = np.full((ahead.size, 1, intervals, 3), np.inf)
        knobs[..., 0] = np.repeat(cap_w, samples)[:, None, None]
        knobs[..., 1] = self._context.highest.max_num_seqs
        rows = self._forks.run(knobs, interval_s, COLUMNS)
        rows = rows.reshape(servers, samples, intervals, len(COLUMNS))
        self._expected, self._passed = rows.mean(axis=1), 0
        return ahead - self._ahead_tokens[:, None], rows[..., OUTPUT]

    def spent(
        self, joule_per_token: float, power_w: float, seconds: float
    ) -> tuple[FloatArray, FloatArray]:
        """Returns Baseline's energy a token, and its mean power.

        Args:
            joule_per_token: What is expected before anything was seen.
            power_w: The same of its power.
            seconds: Time for which that counts.
        """
        work = power_w * seconds / joule_per_token
        energy_j = self._energy_j + power_w * seconds
        return energy_j / (self._work + work), energy_j / (self._seconds + seconds)


def _paces(rows: FloatArray) -> FloatArray:
    """Returns the tokens that each running request is to get in the next intervals."""
    soon = rows[:, 1:3].sum(axis=1) if rows.shape[1] > 1 else rows[:, 0]
    return np.asarray(soon[:, OUTPUT] / np.maximum(soon[:, RUNNING], 1.0))
