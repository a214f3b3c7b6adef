"""Baseline's own episode, run ahead: what throughput is measured against, and what it spends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from baselines.twin.cost import Yardstick
from baselines.twin.future import Future
from baselines.twin.plans import FloatArray, PlanSpace
from envs.compiled.window import windowed_rates
from envs.context import ControlContext
from envs.knobs import Knobs
from envs.objectives.conditions import Conditions
from envs.simulator.fleet import Fleet
from envs.telemetry import COLUMN


class BaselineBeside:
    """The Baseline strategy on the same requests, for the whole of some episodes.

    It holds the highest batch limit and the highest cap that the power budget leaves: an
    efficiency that only a Baseline above the budget would reach is nobody's to reach.

    Args:
        context: What is known about the servers.
        space: The knobs there are.
        futures: The episodes.
        prompt_weight: Tokens of output that a prompt token counts as.

    Attributes:
        conditions: What is demanded, shape ``(servers, intervals, len(Conditions._fields))``.
        caps_w: Baseline's caps, shape ``(servers, intervals)``.
        target_tok_s: What is demanded at most, shape ``(servers, intervals)``; 0 during the
            warm-up.
        goal_tok_s: The lower of the target and Baseline's windowed throughput by interval, shape
            ``(servers, intervals)``; 0 during the warm-up.
        yardstick: What Baseline spends.
    """

    def __init__(
        self,
        context: ControlContext,
        space: PlanSpace,
        futures: Sequence[Future],
        prompt_weight: float,
    ) -> None:
        fleet = fleet_of(futures)
        self.conditions = np.stack([future.conditions() for future in futures])
        demanded = Conditions(*np.moveaxis(self.conditions, -1, 0))
        caps_w = space.highest_caps_w(np.asarray(context.cap_limit_w(demanded.power_budget_w)))
        servers, intervals = caps_w.shape
        seqs, everyone = context.highest.max_num_seqs, np.arange(servers)
        rows = np.empty((servers, intervals, 3))
        for interval in range(intervals):
            fleet.apply(Knobs(caps_w[:, interval], seqs, None))
            telemetry = fleet.advance(context.interval_s, everyone)
            rows[:, interval] = telemetry[
                :, [COLUMN.output_tokens, COLUMN.prompt_tokens, COLUMN.energy_gpu_j]
            ]
        output, prompt, energy_j = rows.sum(axis=1).T
        work = np.maximum(output + prompt_weight * prompt, 1.0)
        self.yardstick = Yardstick(
            energy_j / work,
            energy_j / (intervals * context.interval_s),
            np.array([future.server_spec.workload.mean_output_tokens for future in futures]),
        )
        delivered = np.stack(
            [windowed_rates(own, context.qos.window_s, context.interval_s) for own in rows[..., 0]]
        )
        warm = context.qos.evaluates(np.arange(intervals) * context.interval_s)
        self.caps_w: FloatArray = caps_w
        self.target_tok_s: FloatArray = np.where(warm, demanded.target_tok_s, 0.0)
        self.goal_tok_s: FloatArray = np.minimum(self.target_tok_s, delivered)


def fleet_of(futures: Sequence[Future]) -> Fleet:
    """Returns the servers of some episodes at their beginning."""
    randomize = any(future.randomize for future in futures)
    fleet = Fleet([future.server_spec for future in futures], randomize=randomize, latency=False)
    for index, future in enumerate(futures):
        fleet.reset(index, future.seed)
    return fleet
