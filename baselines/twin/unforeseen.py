"""Arrivals that are not known, for a planner that knows all else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from baselines.twin.arrivals import ArrivalBelief
from baselines.twin.beside import fleet_of
from baselines.twin.coming import drawn_requests
from baselines.twin.cost import COLUMNS, OUTPUT, windowed
from baselines.twin.future import Future
from baselines.twin.hypotheses import moved
from baselines.twin.lengths import LengthBelief, expected_lengths
from baselines.twin.plans import FloatArray
from envs.compiled.window import window_length
from envs.context import ControlContext
from envs.knobs import Knobs
from envs.observations import Observation
from envs.simulator.forks import Forks
from envs.telemetry import COLUMN
from envs.workloads.base import RequestChunk


class Drawn(NamedTuple):
    """What may come.

    Attributes:
        coming: Requests to come, those of a server's samples in a row; times on its clock.
        baseline_tokens: Baseline's output tokens within the QoS window at the end of each
            interval, shape ``(servers, samples, intervals)``.
    """

    coming: list[RequestChunk]
    baseline_tokens: FloatArray


class UnforeseenArrivals:
    """Draws requests to come as those that have come let expect, and what Baseline does with them.

    The rate is believed as :class:`baselines.twin.mpc.Mpc` believes it, from the same counts; of
    the lengths their law is known. Baseline's state is known.

    Args:
        context: What is known about the servers.
        futures: The episodes.
        caps_w: Baseline's caps by interval, shape ``(servers, intervals)``.
        samples: Samples of what may come.
        seed: Seed of the draws.
    """

    def __init__(
        self,
        context: ControlContext,
        futures: Sequence[Future],
        caps_w: FloatArray,
        samples: int,
        seed: int,
    ) -> None:
        self._context, self._caps_w, self._samples = context, caps_w, samples
        self._fleet = fleet_of(futures)
        self._forks = Forks(self._fleet, samples)
        self._everyone = np.arange(len(futures))
        window = window_length(context.qos.window_s, context.interval_s)
        self._past = np.zeros((len(futures), window - 1))
        self._in_flight = [future.server_spec.workload.concurrency for future in futures]
        self._rngs = [np.random.default_rng([seed, index]) for index in range(len(futures))]
        self._prompts, self._outputs, self._arrivals = [], [], []
        for future in futures:
            expected = expected_lengths(future.server_spec.workload)
            outputs = LengthBelief(expected.output_tokens)
            self._prompts.append(LengthBelief(expected.prompt_tokens))
            self._outputs.append(outputs)
            self._arrivals.append(ArrivalBelief(context.offered_tok_s / max(outputs.mean, 1.0)))

    def follow(self, observed: Observation, interval: int) -> None:
        """Takes an interval into account that has passed.

        Args:
            observed: What was observed of it.
            interval: Which it was.
        """
        interval_s = self._context.interval_s
        self._fleet.apply(Knobs(self._caps_w[:, interval], self._seqs, None))
        tokens = self._fleet.advance(interval_s, self._everyone)[:, [COLUMN.output_tokens]]
        self._past = np.concatenate([self._past, tokens], axis=1)[:, 1:]
        for belief, arrivals_per_s in zip(self._arrivals, observed.arrivals_per_s, strict=True):
            belief.note(round(float(arrivals_per_s) * interval_s), interval_s)

    @property
    def _seqs(self) -> int:
        return int(self._context.highest.max_num_seqs)

    def draw(self, interval: int, intervals: int) -> Drawn:
        """Draws what may come.

        Args:
            interval: The interval that begins.
            intervals: How many are looked ahead.
        """
        interval_s = self._context.interval_s
        coming: list[RequestChunk] = []
        for index, rng in enumerate(self._rngs):
            drawn = drawn_requests(
                self._arrivals[index],
                self._prompts[index],
                self._outputs[index],
                samples=self._samples,
                horizon_s=intervals * interval_s,
                interval_s=interval_s,
                in_flight=self._in_flight[index],
                rng=rng,
            )
            now_s = float(self._fleet.servers[index].until_s)
            coming += [moved(chunk, now_s) for chunk in drawn]
        ahead = np.minimum(interval + np.arange(intervals), self._caps_w.shape[1] - 1)
        knobs = np.full((len(self._rngs), self._samples, intervals, 3), np.inf)
        knobs[..., 0] = self._caps_w[:, None, ahead]
        knobs[..., 1] = self._seqs
        self._forks.fork(None, coming)
        tokens = self._forks.run(knobs, interval_s, COLUMNS)[..., OUTPUT]
        return Drawn(coming, windowed(tokens, self._past))
