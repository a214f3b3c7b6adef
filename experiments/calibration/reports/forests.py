"""Tabulates how well PALS's forests learn the profile of a simulated server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from baselines.pals.predictor import INPUTS, FitReport
from experiments.reporting.markdown import markdown_table

PAPER = "arXiv:2605.21427 §3.2, on hardware"


def forest_table(reports: Mapping[str, FitReport]) -> str:
    """Returns held-out errors and importances for tokens per joule as a Markdown table."""
    head = ["profile of", "rows", "MAPE throughput", "MAPE power", "importance for tokens/J"]
    rows = [[PAPER, "", "6.8 %", "4.5 %", "batch size, power cap, TP"]]
    for name, report in reports.items():
        errors = (report.mape["throughput_tok_s"], report.mape["power_w"])
        percents = [f"{100 * error:.1f} %" for error in errors]
        rows.append([name, str(report.rows), *percents, _order(report)])
    return markdown_table(head, rows)


def _order(report: FitReport) -> str:
    importance = report.importance["tokens_per_joule"]
    names: Sequence[str] = sorted(INPUTS, key=lambda name: -importance[name])
    return ", ".join(f"{name} {importance[name]:.2f}" for name in names if importance[name] > 0.0)
