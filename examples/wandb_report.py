"""Makes a report of a project's runs on Weights & Biases: ``python -m examples.wandb_report``.

It shows what the runs of ``tracker=wandb`` (or ``pals upload``) wrote: efficiency against
violations, the metrics of each run, and its intervals over time. It is saved as a draft.
Reports are made by a package of their own (``pip install wandb-workspaces``).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

PROJECT = "pals-gym"
X, Y = "qos_violation_rate", "tokens_per_joule"
SUMMARY = (Y, X, "slo_violation_rate", "ttft_p99_s", "tpot_p99_s", "budget_overshoot_rate")
"""Metrics of a whole run."""
SERIES = (
    ("Throughput against target", ("throughput_tok_s", "target_tok_s")),
    ("Power against cap and budget", ("power_w", "power_cap_w", "power_budget_w")),
    ("Batch and queue", ("running", "waiting", "max_num_seqs")),
    ("Latency", ("ttft_p99_s", "tpot_p99_s")),
)
"""Columns of the intervals, by plot."""
TIME = "time_s"


def report(entity: str | None, project: str, title: str) -> Any:
    """Returns the report, not yet saved.

    Args:
        entity: Account or team; ``None`` for the default one.
        project: Project of the runs.
        title: Title.

    Raises:
        ImportError: The package for reports is missing.
    """
    import wandb_workspaces.reports.v2 as wr

    where = {"project": project} if entity is None else {"project": project, "entity": entity}
    overview = [
        wr.ScatterPlot(title="Efficiency against violations", x=X, y=Y),
        *(wr.BarPlot(title=name, metrics=[name]) for name in SUMMARY),
    ]
    lines = [wr.LinePlot(title=name, x=TIME, y=list(columns)) for name, columns in SERIES]
    return wr.Report(
        **where,
        title=title,
        description="Power-aware serving: what each controller spent, and what it delivered.",
        blocks=[
            wr.H1("What each controller reaches"),
            wr.P(
                "Tokens per joule and violations belong together: up and to the left is better. "
                "Compare runs of the same scenario and seed only."
            ),
            wr.PanelGrid(runsets=[wr.Runset(**where)], panels=overview),
            wr.H1("Interval by interval"),
            wr.PanelGrid(runsets=[wr.Runset(**where)], panels=lines),
        ],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Saves the report as a draft and prints its address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", default=os.environ.get("WANDB_PROJECT") or PROJECT)
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY"))
    parser.add_argument("--title", default="Power-aware LLM serving")
    given = parser.parse_args(arguments)
    try:
        made = report(given.entity, given.project, given.title)
    except ImportError:
        sys.exit("reports need the package wandb-workspaces: pip install wandb-workspaces")
    made.save(draft=True)
    sys.stdout.write(f"{made.url}\n")


if __name__ == "__main__":
    main()
