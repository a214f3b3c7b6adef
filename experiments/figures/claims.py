"""Claims of the paper, set beside what we find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

REPRODUCED = "reproduced"
DIRECTION = "reproduced in direction"
NOT_REPRODUCED = "not reproduced"
_NOTHING = 0.05
"""Share of the paper's effect below which ours counts as none."""


@dataclass(frozen=True)
class Claim:
    """A number of the paper, and ours.

    Attributes:
        id: Short name.
        figure: Figure or section of arXiv:2605.21427.
        claim: What the paper says.
        paper: Lowest and highest value that the paper states.
        ours: Our value in the default setting.
        low: Lowest over seeds, or over plausible choices where the paper is silent.
        high: Highest likewise.
        setting: What ``ours``, ``low`` and ``high`` were found with.
        reason: Why it came out as it did, and what the paper would have had to say.
        neutral: Value that means no effect, for the direction; ``None`` where a claim has none.
    """

    id: str
    figure: str
    claim: str
    paper: tuple[float, float]
    ours: float
    low: float
    high: float
    setting: str
    reason: str
    neutral: float | None = None

    @property
    def verdict(self) -> str:
        """What came of the claim, judged by our value in the default setting.

        ``reproduced`` within a quarter of the paper's effect (its distance from ``neutral``),
        or within a tenth of its value where there is no neutral one; else whether the
        direction agrees with more than a twentieth of the effect. The range plays no part:
        over enough choices it holds anything.
        """
        low, high = self.paper
        if self.neutral is None:
            slack = 0.1 * max(abs(low), abs(high))
        else:
            slack = 0.25 * max(abs(low - self.neutral), abs(high - self.neutral))
        if low - slack <= self.ours <= high + slack:
            return REPRODUCED
        if self.neutral is not None:
            middle = 0.5 * (low + high)
            if (self.ours - self.neutral) / (middle - self.neutral) > _NOTHING:
                return DIRECTION
        return NOT_REPRODUCED

    def record(self) -> dict[str, Any]:
        """Returns the claim as plain values, with its verdict."""
        plain = {key: value for key, value in asdict(self).items() if key != "neutral"}
        low, high = self.paper
        return {**plain, "paper": low if low == high else [low, high], "verdict": self.verdict}


def claim_table(claims: Sequence[Claim]) -> list[str]:
    """Returns a Markdown table of claims."""
    lines = [
        "| figure | claim | paper | ours (range) | verdict | why, and what would settle it |",
        "|---|---|---|---|---|---|",
    ]
    for c in claims:
        paper = f"{c.paper[0]:.3g}" + ("" if c.paper[0] == c.paper[1] else f"–{c.paper[1]:.3g}")
        ours = f"{c.ours:.3g} ({c.low:.3g} … {c.high:.3g})"
        lines.append(f"| {c.figure} | {c.claim} | {paper} | {ours} | {c.verdict} | {c.reason} |")
    return lines
