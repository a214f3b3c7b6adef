"""Values of claims in words: with their units, their intervals and their sensitivity."""

from __future__ import annotations

from experiments.figures.claims import Claim


def with_unit(claim: Claim, value: float) -> str:
    """Returns a value of a claim with its unit; fractions in percent."""
    if claim.unit.startswith("fraction"):
        return f"{100 * value:.1f} %"
    return f"{value:.4g}" + (f" {claim.unit}" if claim.unit else "")


def sensitivity_range(claim: Claim) -> str:
    """Returns a sentence on the range of a claim's value over other choices."""
    lowest = min(claim.sensitivity, key=lambda case: case.value)
    highest = max(claim.sensitivity, key=lambda case: case.value)
    ends = (with_unit(claim, lowest.value), with_unit(claim, highest.value))
    if len(claim.sensitivity) == 1:
        return f"With another choice ({lowest.choice}) it is {ends[0]}."
    return (
        f"Over {len(claim.sensitivity)} choices the value runs from {ends[0]} "
        f"({lowest.choice}) to {ends[1]} ({highest.choice})."
    )


def claim_cells(claim: Claim) -> tuple[str, str]:
    """Returns the paper's value and ours with its interval, as cells of a table."""
    paper = claim.paper
    if isinstance(paper, int | float):
        text = with_unit(claim, float(paper))
    elif isinstance(paper, str):
        text = paper
    else:
        text = " to ".join(with_unit(claim, float(end)) for end in paper)
    if claim.ours is None:
        return text, "–"
    ours = with_unit(claim, claim.ours)
    if claim.low is not None and claim.high is not None:
        ours += f" ({with_unit(claim, claim.low)} to {with_unit(claim, claim.high)})"
    return text, ours
