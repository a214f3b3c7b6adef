"""Evaluates the throughput that PALS gains at low power targets."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.figures.claims import Claim, SensitivityCase, evaluate, interval_of
from experiments.figures.fig10.data import BASE, DemandResponse, cache_ratio
from experiments.figures.text import FigureText


def throughput_claim(
    text: FigureText,
    data: DemandResponse,
    variants: Mapping[str, DemandResponse],
    *,
    seeds: int,
    duration_s: float,
) -> Claim:
    """Evaluates the gain in the bin of the lowest power targets.

    Args:
        text: Texts of the figure.
        data: Runs of the main variant.
        variants: Runs of the other variants.
        seeds: Episodes of the main variant.
        duration_s: Length of an episode in seconds.
    """
    _, gains = data.gains("pals")
    ours = interval_of(gains[0])
    cases = [SensitivityCase(text.phrase("all_targets"), *interval_of(gains.mean(axis=0)))]
    for name, other in variants.items():
        choice = text.phrase("lowest_targets", variant=name)
        cases.append(SensitivityCase(choice, *interval_of(other.gains("pals")[1][0])))
    error_w = {
        name: interval_of([s["power_tracking_error_w"] for s in data.summaries(name)]).value
        for name in (BASE, "pals")
    }
    return text.evaluated(
        "throughput",
        ours,
        evaluate(text.claims["throughput"].paper, ours, 0.0),
        sensitivity=cases,
        percent=100 // data.bins,
        seeds=seeds,
        duration=duration_s,
        cache_ratio=cache_ratio("deepseek_moe_16b", "a100_sxm4_80gb", 4, 64),
        pals_error=error_w["pals"],
        base_error=error_w[BASE],
    )
