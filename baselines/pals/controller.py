"""PALS: the model ranks the knobs, feedback corrects the model (arXiv:2605.21427 §3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.base import KnobController, Preparation
from baselines.budget import caps_within
from baselines.pals.feedback import Feedback, FeedbackState
from baselines.pals.predictor import ForestConfig, PredictionTable, Predictor, predictor_for
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.knobs import Knobs
from envs.observations import Observation
from envs.quantities import Gain, SecondsOrNone


class Ranking(NamedTuple):
    """Candidate knobs within one budget, the most efficient first.

    Attributes:
        knobs: The candidates.
        throughput_tok_s: Their predicted throughput.
        tpot_s: Their predicted time per output token.
        fastest: Position of the one with the highest predicted throughput.
    """

    knobs: list[Knobs]
    throughput_tok_s: NDArray[np.float64]
    tpot_s: NDArray[np.float64]
    fastest: int


class _State(NamedTuple):
    """State between two decisions."""

    knobs: Knobs
    saturated: bool
    feedback: FeedbackState
    off_target_s: float
    age_s: float
    target_tok_s: float
    budget_w: float
    tpot_slo_s: float
    hurried: bool


@dataclass(kw_only=True)
class Pals(KnobController):
    """Algorithm 1 of arXiv:2605.21427 with its offline model and its PID loop.

    Among the candidates whose caps keep within the power budget it takes the one with the
    highest predicted throughput per watt of those predicted to reach the target, or the
    fastest if none is. A new choice is applied when throughput has been off target
    by more than ``threshold`` for ``sustain_s``, and at once when target or budget change.
    Without a target it takes the most efficient candidate. It considers throughput alone, not
    queues, and latency only if ``tpot_aware``.

    Attributes:
        threshold: Relative throughput error that is tolerated (the paper's 5 %).
        sustain_s: How long the error must stay above it, in seconds ("sustained intervals").
        change: Relative change of target or budget, since the last choice, that counts
            as a change of an external constraint.
        settle_s: Time after the start in which feedback waits for the throughput window to
            fill; ``None`` takes that window's length.
        tpot_aware: Whether candidates predicted to violate the TPOT SLO are infeasible. This is
            an extension: the paper's controller considers throughput only.
        queue_aware: Whether it takes the fastest candidates while a request has waited for longer
            than ``patience_s``, an extension too.
        patience_s: Longest wait for a first token, in seconds, if ``queue_aware``; half the TTFT
            SLO where that is shorter.
        feedback: The PID loop.
        forest: The offline model.
    """

    adjustable = frozenset({"threshold", "sustain_s", "change"})

    threshold: Gain = 0.05
    sustain_s: SecondsOrNone = 2.0
    change: Gain = 0.01
    settle_s: SecondsOrNone | None = None
    tpot_aware: bool = False
    queue_aware: bool = False
    patience_s: SecondsOrNone = 1.0
    feedback: Feedback = field(default_factory=Feedback)
    forest: ForestConfig = field(default_factory=ForestConfig)

    @override
    def bind(self, context: ControlContext) -> None:
        super().bind(context)
        self.predictor: Predictor | None = None
        self._settle_s = context.qos.window_s if self.settle_s is None else self.settle_s

    def prepare(self, preparation: Preparation) -> None:
        """Fits the forests to the server's profile and tabulates what they predict."""
        profile = preparation.profile()
        self.predictor = predictor_for(profile, self.forest)
        table = self.predictor.tabulate(self.context.grid, profile)
        levels = range(1, len(self.context.grid.power_caps_w) + 1)
        self._rankings = [self._rank(table, level) for level in levels]

    def candidates(self, caps: int) -> NDArray[np.bool_]:
        """Marks the knobs to choose from when the ``caps`` lowest caps are within the budget.

        Returns:
            Array of shape ``(caps of the grid, batch limits)``. Variants that move one
            knob only override this.
        """
        grid = self.context.grid
        mask = np.zeros((len(grid.power_caps_w), len(grid.max_num_seqs)), dtype=np.bool_)
        mask[:caps] = True
        return mask

    @override
    def decide(self, observation: Observation, state: _State | None) -> tuple[Knobs, Any]:
        """Follows the paper's Algorithm 1, whose lines the comments name."""
        if self.predictor is None:
            raise ConfigurationError("controller: prepare() must be called before predict()")
        interval_s = self.context.interval_s
        target = observation.target_tok_s
        error = 1.0 - observation.throughput_tok_s / target if target > 0 else 0.0  # line 1
        last = state or _State(
            self.context.highest, False, FeedbackState(), 0.0, 0.0, math.nan, math.nan, math.nan,
            False,
        )  # fmt: skip
        feedback, correction, off_target_s = last.feedback, 0.0, 0.0
        if last.age_s >= self._settle_s and target > 0:
            correction, feedback = self.feedback.correct(
                error, interval_s, feedback, last.saturated
            )
            if abs(error) > self.threshold:
                off_target_s = last.off_target_s + interval_s
        kept = last._replace(
            feedback=feedback, off_target_s=off_target_s, age_s=last.age_s + interval_s
        )
        hurried = self.queue_aware and self._hurried(observation)
        stays = off_target_s < self.sustain_s and hurried == last.hurried
        if stays and not self._changed(observation, last):
            return last.knobs, kept  # line 6
        ranking = self._rankings[caps_within(self.context, observation) - 1]  # line 2
        wanted_tok_s = math.inf if hurried else target * (1.0 + correction)
        position, saturated = self._choose(ranking, observation, wanted_tok_s)
        return ranking.knobs[position], kept._replace(
            knobs=ranking.knobs[position],
            saturated=saturated,
            off_target_s=0.0,
            target_tok_s=target,
            budget_w=observation.power_budget_w,
            tpot_slo_s=observation.tpot_slo_s,
            hurried=hurried,
        )

    def _hurried(self, observation: Observation) -> bool:
        """Returns whether a request has waited for too long."""
        patience_s = min(self.patience_s, 0.5 * observation.ttft_slo_s)
        return bool(observation.waiting > 0.5 and observation.oldest_wait_s > patience_s)

    def _choose(
        self, ranking: Ranking, observation: Observation, wanted_tok_s: float
    ) -> tuple[int, bool]:
        """Returns the position of the choice, and whether it is the fastest candidate."""
        enough = ranking.throughput_tok_s >= wanted_tok_s  # line 4
        if self.tpot_aware:
            in_time = ranking.tpot_s <= observation.tpot_slo_s
            if (enough & in_time).any():
                enough &= in_time
            elif in_time.any():
                best = int(np.argmax(np.where(in_time, ranking.throughput_tok_s, -np.inf)))
                return best, True
        first = int(enough.argmax())
        if enough[first]:  # line 5
            return first, first == ranking.fastest
        return ranking.fastest, True

    def _changed(self, observation: Observation, last: _State) -> bool:
        """Returns whether target or budget have changed since the last choice."""
        pairs = (
            (observation.target_tok_s, last.target_tok_s),
            (observation.power_budget_w, last.budget_w),
            (
                observation.tpot_slo_s,
                last.tpot_slo_s if self.tpot_aware else observation.tpot_slo_s,
            ),
        )
        return any(not math.isclose(now, then, rel_tol=self.change) for now, then in pairs)

    def _rank(self, table: PredictionTable, caps: int) -> Ranking:
        """Sorts the candidates of a budget level by predicted throughput per watt."""
        grid = self.context.grid
        rows, columns = np.nonzero(self.candidates(caps))
        throughput = table.throughput_tok_s[rows, columns]  # line 3
        order = np.argsort(-throughput / table.power_w[rows, columns], kind="stable")
        rows, columns = rows[order], columns[order]
        knobs = [
            Knobs(grid.power_caps_w[row], grid.max_num_seqs[column])
            for row, column in zip(rows, columns, strict=True)
        ]
        throughput = table.throughput_tok_s[rows, columns]
        return Ranking(knobs, throughput, table.tpot_s[rows, columns], int(throughput.argmax()))
