"""Draws the runs of figure 9 by latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.figures.claims import interval_of
from experiments.figures.fig09.data import REFERENCE, NodeRuns
from experiments.figures.fig09.plot import NODE_COLORS, NODE_WIDTH
from experiments.figures.plot_marks import FORMATS, bar, controller_ticks, model_label, stem
from experiments.reporting.plot_style import RED, saved_plot


def draw_latency(
    data: NodeRuns, names: Sequence[str], slos: tuple[float, float], file: Path
) -> None:
    """Draws throughput QoS, SLO violations and latencies by node.

    Args:
        data: The runs.
        names: Controllers.
        slos: SLOs of TTFT and TPOT in seconds.
        file: Stem of the files.
    """
    ttft_s, tpot_s = slos
    panels = (
        (REFERENCE, "Throughput QoS violated, % of time", 100.0, None),
        ("slo_violation_rate", "Requests that miss an SLO, %", 100.0, None),
        ("ttft_p99_s", "TTFT p99, s", 1.0, ttft_s),
        ("tpot_p99_s", "TPOT p99, ms", 1e3, 1e3 * tpot_s),
    )
    size = (1.6 + 1.15 * len(names), 6.0)
    models = list(data.nodes.values())
    with saved_plot(stem(file), 2, 2, size, formats=FORMATS) as (figure, axes):
        for axis, (key, title, factor, slo) in zip(axes.flat, panels, strict=True):
            for x, name in enumerate(names):
                values = factor * data.by_node(name, key)
                for place, color in enumerate(NODE_COLORS[: len(models)]):
                    label = model_label(models[place]) if x == 0 else None
                    at = x + NODE_WIDTH * (place - 1)
                    bar(axis, at, interval_of(values[:, place]), 0.24, color, label=label)
            if slo is not None:
                axis.axhline(slo, color=RED, ls="--", lw=1.2, label="SLO")
            axis.set_title(title)
            controller_ticks(axis, names, size=7.5)
        handles, labels = axes.flat[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
