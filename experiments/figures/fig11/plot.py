"""Draws figure 11."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.figures.episodes import FinishedRun
from experiments.figures.plot_marks import CONTROLLERS, FORMATS, controller_label, stem
from experiments.reporting.plot_style import BLACK, saved_plot

_PANELS = {
    "throughput_tok_s": "Output tokens/s",
    "requested_power_cap_w": "Power cap per GPU, W",
    "requested_max_num_seqs": "Batch limit",
}


def draw(runs: Sequence[FinishedRun], names: Sequence[str], file: Path) -> None:
    """Draws throughput, cap and batch limit of the first seed over the time."""
    first = min(run.seed for run in runs)
    with saved_plot(stem(file), 3, 1, (8.4, 6.4), formats=FORMATS, sharex=True) as (figure, axes):
        for name in names:
            run = next(r for r in runs if r.controller == name and r.seed == first)
            table = run.intervals()
            color = CONTROLLERS.get(name, (name, BLACK))[1]
            for axis, column in zip(axes, _PANELS, strict=True):
                label = controller_label(name)
                axis.plot(table["time_s"], table[column], color=color, label=label)
        target = {"color": BLACK, "ls": "--", "label": "target"}
        axes[0].plot(table["time_s"], table["target_tok_s"], **target)
        for axis, title in zip(axes, _PANELS.values(), strict=True):
            axis.set_title(title)
            axis.set_ylim(bottom=0)
        axes[-1].set_xlabel("Time, s")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6)
