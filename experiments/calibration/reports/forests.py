"""Tabulates how well PALS's forests learn the profile of a simulated server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from baselines.pals.predictor import INPUTS, FitReport

PAPER = "arXiv:2605.21427 §3.2, on hardware"


def forest_table(reports: Mapping[str, FitReport]) -> list[str]:
    """Returns held-out errors and importances for tokens per joule as a Markdown table."""
    lines = [
        "| profile of | rows | MAPE throughput | MAPE power | importance for tokens/J |",
        "|---|---|---|---|---|",
        f"| {PAPER} | | 6.8 % | 4.5 % | batch size, power cap, TP |",
    ]
    for name, report in reports.items():
        lines.append(
            f"| {name} | {report.rows} | {100 * report.mape['throughput_tok_s']:.1f} % | "
            f"{100 * report.mape['power_w']:.1f} % | {_order(report)} |"
        )
    return lines


def _order(report: FitReport) -> str:
    importance = report.importance["tokens_per_joule"]
    names: Sequence[str] = sorted(INPUTS, key=lambda name: -importance[name])
    return ", ".join(f"{name} {importance[name]:.2f}" for name in names if importance[name] > 0.0)
