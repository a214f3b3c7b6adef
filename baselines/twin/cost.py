"""What a plan costs: energy, less the worth of the work done, and the price of what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from baselines.twin.plans import FloatArray
from envs.fields import Checked
from envs.quantities import FractionBelowOne, Gain, Seconds
from envs.telemetry import COLUMN

COLUMNS = np.array(
    [
        COLUMN.energy_gpu_j,
        COLUMN.output_tokens,
        COLUMN.prompt_tokens,
        COLUMN.slo_missed,
        COLUMN.slo_overdue,
        COLUMN.finished,
        COLUMN.power_w,
        COLUMN.running,
    ]
)
"""What is noted of every interval of a plan."""
ENERGY, OUTPUT, PROMPT, MISSED, OVERDUE, FINISHED, SENSOR, RUNNING = range(len(COLUMNS))


class Yardstick(NamedTuple):
    """What Baseline spends on a server, in which costs are counted; each of shape ``(servers,)``.

    Attributes:
        joule_per_token: Its energy for a token.
        power_w: Its mean power.
        request_tokens: Mean output length of a request.
    """

    joule_per_token: FloatArray
    power_w: FloatArray
    request_tokens: FloatArray


class Outlook(NamedTuple):
    """What throughput will be measured against.

    Attributes:
        goal_tok_s: The lower of the target and Baseline's windowed throughput in each interval,
            shape ``(servers, samples, intervals)``; 0 where QoS is not evaluated.
        past_tokens: Output tokens of the past intervals that the window reaches back to, oldest
            first, shape ``(servers, window - 1)``; 0 where nothing has been seen.
        seen_s: Time in seconds that the window covers at the end of each interval, shape
            ``(servers, intervals)``.
        interval_s: Length of an interval.
        knobs_now: Knobs in force, shape ``(servers, 3)``.
        token_j: What a token is worth, in joules, shape ``(servers,)``.
    """

    goal_tok_s: FloatArray
    past_tokens: FloatArray
    seen_s: FloatArray
    interval_s: float
    knobs_now: FloatArray
    token_j: FloatArray


@dataclass(kw_only=True)
class Cost(Checked):
    """Prices; energy is the currency, in joules of all GPUs.

    Work done within the horizon need not be done after it. That is what it is worth: the energy
    that the server has spent on as much work so far. Without this terminal value the cheapest plan
    would be to leave all work behind; with Baseline's energy for it, which is more, too much would
    be done now that can be done later, in larger batches.

    Attributes:
        work_value: Worth of a token, in the server's own energy for a token.
        prompt_weight: Tokens of output that a prompt token counts as.
        violation_price: Price of an interval in violation of QoS, in Baseline's energy over an
            interval.
        severity: Further price of a violation per relative shortfall, as a multiple.
        strictness: Tolerance of QoS that is not used, as a fraction of the target. The factor on
            the price of violations is one on it, too: where a server that violates too often
            believes that it does not, a price alone changes nothing. What exceeds the tolerance is
            asked for on top of the target.
        late_price: Price of a request past its latency SLO, in Baseline's energy for a request.
        patience_s: Longest time to first token where no SLO demands less, in seconds; ``None`` for
            any time, so that only an SLO makes a request late.
        switch_price: Price of a change of knobs, in Baseline's energy over a second.
    """

    config_key: ClassVar[str] = "controller.cost"

    work_value: Gain = 1.0
    prompt_weight: Gain = 1.0
    violation_price: Gain = 1.0
    severity: Gain = 4.0
    strictness: FractionBelowOne = 0.005
    late_price: Gain = 1.0
    patience_s: Seconds | None = None
    switch_price: Gain = 0.02

    def of(
        self,
        observed: FloatArray,
        knobs: FloatArray,
        outlook: Outlook,
        yardstick: Yardstick,
        tolerance: float,
        violation_price: FloatArray,
        late_allowed: float,
    ) -> FloatArray:
        """Returns the cost of plans in joules, shape ``(servers, plans)``: a mean over samples.

        Args:
            observed: What each plan brings about, shape ``(servers, samples, plans, intervals,
                len(COLUMNS))``.
            knobs: Its knobs, shape ``(servers, plans, intervals, 3)``.
            outlook: What throughput is measured against.
            yardstick: What Baseline spends.
            tolerance: Shortfall that QoS forgives, as a fraction.
            violation_price: Factor on the price of violations and on the tolerance that is not
                used, shape ``(servers,)``.
            late_allowed: Fraction of requests, over all samples, that may be late at no price.
        """
        token_j = yardstick.joule_per_token[:, None, None]
        interval_j = (yardstick.power_w * outlook.interval_s)[:, None, None]
        energy_j = observed[..., ENERGY].sum(axis=-1)
        work = (observed[..., OUTPUT] + self.prompt_weight * observed[..., PROMPT]).sum(axis=-1)
        late = _late(observed, late_allowed)
        late_j = self.late_price * token_j * yardstick.request_tokens[:, None, None] * late
        strictness = self.strictness * violation_price
        violations = self._violations(observed[..., OUTPUT], outlook, tolerance - strictness)
        price_j = self.violation_price * violation_price[:, None, None] * interval_j
        worth_j = self.work_value * outlook.token_j[:, None, None] * work
        total = energy_j - worth_j + late_j + price_j * violations
        switches = self.switch_price * yardstick.power_w[:, None] * _changes(knobs, outlook)
        return np.asarray(total.mean(axis=1) + switches)

    def ttft_limit_s(self, ttft_slo_s: FloatArray) -> FloatArray:
        """Returns after which time a request without a first token is late."""
        patience_s = np.inf if self.patience_s is None else self.patience_s
        return np.minimum(ttft_slo_s, patience_s)

    def _violations(
        self, tokens: FloatArray, outlook: Outlook, tolerance: FloatArray
    ) -> FloatArray:
        """Returns weighted intervals in violation, shape ``(servers, samples, plans)``."""
        throughput = windowed(tokens, outlook.past_tokens) / outlook.seen_s[:, None, None, :]
        goal = outlook.goal_tok_s[:, :, None, :]
        short = throughput < (1.0 - tolerance[:, None, None, None]) * goal
        shortfall = np.clip(1.0 - throughput / np.maximum(goal, 1e-9), 0.0, 1.0)
        return np.asarray((short * (1.0 + self.severity * shortfall)).sum(axis=-1))


def _late(observed: FloatArray, allowed: float) -> FloatArray:
    """Returns late requests beyond those that are allowed, shape ``(servers, 1, plans)``.

    A chance constraint: what counts is the fraction over all samples together.
    """
    overdue = observed[..., -1, OVERDUE].sum(axis=1)
    late = observed[..., MISSED].sum(axis=(1, -1)) + overdue
    requests = observed[..., FINISHED].sum(axis=(1, -1)) + overdue
    samples = observed.shape[1]
    return np.asarray(np.maximum(late - allowed * requests, 0.0) / samples)[:, None]


def windowed(tokens: FloatArray, past: FloatArray) -> FloatArray:
    """Returns the sum over a sliding window that reaches back into the past.

    Args:
        tokens: Amount of each coming interval, shape ``(servers, ..., intervals)``.
        past: Amounts of the intervals before, shape ``(servers, window - 1)``.
    """
    between = (1,) * (tokens.ndim - 2)
    before = np.broadcast_to(
        past.reshape(len(past), *between, -1), (*tokens.shape[:-1], past.shape[1])
    )
    sums = np.cumsum(np.concatenate([before, tokens], axis=-1), axis=-1)
    length = past.shape[1] + 1
    result: FloatArray = sums[..., length - 1 :].copy()
    result[..., 1:] -= sums[..., :-length]
    return result


def _changes(knobs: FloatArray, outlook: Outlook) -> FloatArray:
    """Returns how often plans change the knobs, shape ``(servers, plans)``."""
    now = np.broadcast_to(outlook.knobs_now[:, None, None, :], knobs[:, :, :1].shape)
    changed = np.concatenate([now, knobs], axis=2)
    return np.asarray((changed[:, :, 1:] != changed[:, :, :-1]).any(axis=-1).sum(axis=-1))
