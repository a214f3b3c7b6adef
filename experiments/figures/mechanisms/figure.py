"""The table of mechanisms tried for each claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from envs.quantities import Seconds, Seeds
from experiments.figures.base import Figure, Result, Row
from experiments.figures.claims import NOT_REPRODUCED, REPRODUCED
from experiments.figures.context import FigureContext
from experiments.figures.mechanisms.config import Trial
from experiments.figures.mechanisms.data import NEUTRAL, Outcome, outcomes
from experiments.figures.text import figure_text


@dataclass(kw_only=True)
class Mechanisms(Figure):
    """Claims that the calibrated simulator does not bring back, each under several mechanisms.

    Attributes:
        trials: The claims by a short name.
        seeds: Episodes of each.
        duration_s: Length of an episode on one server in seconds.
        cluster_duration_s: Length of an episode of a cluster in seconds.
    """

    trials: dict[str, Trial] = field(default_factory=dict)
    seeds: Seeds = 3
    duration_s: Seconds = 300.0
    cluster_duration_s: Seconds = 1200.0

    def make(self, context: FigureContext) -> Result:
        """Runs every claim under every mechanism."""
        text = figure_text("mechanisms")
        rows: list[Row] = []
        notes = []
        for name, trial in self.trials.items():
            single = not trial.overrides
            found = outcomes(
                context, name, trial,
                seeds=self.seeds,
                duration_s=self.duration_s if single else self.cluster_duration_s,
            )  # fmt: skip
            rows += [_row(trial, outcome) for outcome in found]
            notes.append(f"{trial.claim}: {what_would_settle(trial, found)}")
        title, caption = text.made(
            seeds=self.seeds, duration=self.duration_s, cluster=self.cluster_duration_s
        )
        return Result(title=title, caption=caption, rows=rows, notes=notes)


def _row(trial: Trial, outcome: Outcome) -> Row:
    ours = outcome.ours
    return {
        "claim": trial.claim,
        "mechanism": outcome.mechanism,
        "paper": " to ".join(f"{value:g}" for value in trial.paper),
        "ours": f"{ours.value:.3f} ({ours.low:.3f} to {ours.high:.3f})",
        "verdict": outcome.verdict,
    }


def what_would_settle(trial: Trial, found: Sequence[Outcome]) -> str:
    """Returns a sentence on which mechanisms bring a claim back, or come nearest."""
    back = [outcome.mechanism for outcome in found if outcome.verdict == REPRODUCED]
    if back:
        said = f" The paper would have had to say {trial.unsaid}." if trial.unsaid else ""
        return f"brought back by {'; '.join(back)}.{said}"
    middle = sum(trial.paper) / len(trial.paper)
    nearest = min(found, key=lambda outcome: abs(outcome.ours.value - middle))
    side = [o.mechanism for o in found if o.verdict != NOT_REPRODUCED]
    on_side = f" On the paper's side: {'; '.join(side)}." if side else ""
    opposite = (nearest.ours.value - NEUTRAL) * (middle - NEUTRAL) < 0
    against = ", which is the opposite effect" if opposite else ""
    return (
        f"brought back by none of the {len(found)} tried; nearest is '{nearest.mechanism}' with "
        f"{nearest.ours.value:.3f}{against}.{on_side}"
    )
