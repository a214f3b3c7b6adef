"""Draws figure 8."""

from __future__ import annotations

from pathlib import Path

from experiments.figures.claims import interval_of
from experiments.figures.fig08.data import TensorHeadroom
from experiments.figures.plot_marks import FORMATS, line, stem
from experiments.reporting.plot_style import saved_plot


def draw(data: TensorHeadroom, file: Path) -> None:
    """Draws the headroom over the cap, for one fixed size and for each model's own."""
    panels = (
        (data.fixed, f"TP fixed at {data.fixed}"),
        (None, "TP fixed at its best for the highest cap"),
    )
    with saved_plot(stem(file), 1, 2, (8.4, 4.1), formats=FORMATS) as (figure, axes):
        for axis, (fixed, title) in zip(axes, panels, strict=True):
            for model in data.models:
                own = [interval_of(100.0 * values) for values in data.headroom(model, fixed)]
                line(axis, data.caps_w, own, model)
            axis.set_title(title)
            axis.set_xlabel("Power cap per GPU, W")
            axis.set_ylim(bottom=0.0)
        axes[0].set_ylabel("Headroom in tokens per joule, %")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
