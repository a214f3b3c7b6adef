"""Lists the metrics of runs as Markdown: ``python -m experiments.list_metrics``."""

from __future__ import annotations

import sys

from experiments.evaluation.metric_table import GROUPS, Metric
from experiments.reporting.markdown import markdown_table

_INTRODUCTION = """\
# Metrics

Made by `python -m experiments.list_metrics > docs/metrics.md` from
`experiments/evaluation/metric_table.py`.

Files hold SI units, and rates and fractions from 0 to 1; what does not apply is `null`. The unit
below is the one that tables and plots show. A prompt token counts once; recomputing it after a
preemption does not count. The warm-up (`objective.qos.warmup_s`, 10 s) is left out of QoS and
latency, never of energy or tokens. Window and tolerance of QoS are `objective.qos.window_s` (10 s)
and `objective.qos.tolerance` (5 %). Baseline holds the highest cap and batch limit, knows no power
budget, and in a closed loop has the same number of requests in flight."""


def page() -> str:
    """Returns all metrics as a Markdown page."""
    parts = [_INTRODUCTION]
    for title, metrics in GROUPS.items():
        head = ["key", "name", "unit", "better", "meaning"]
        parts += [f"## {title}", markdown_table(head, [_row(metric) for metric in metrics])]
    return "\n\n".join(parts) + "\n"


def _row(metric: Metric) -> list[str]:
    return [
        f"`{metric.key}`", metric.title, metric.unit, metric.better.value, metric.description
    ]  # fmt: skip


def main() -> None:
    """Prints the page."""
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
