"""Draws figure 10."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.figures.claims import interval_of
from experiments.figures.fig10.data import BASE, DemandResponse
from experiments.figures.plot_marks import CONTROLLERS, FORMATS, controller_label, level, stem
from experiments.figures.text import FigureText
from experiments.reporting.plot_style import BLACK, saved_plot

_DASHES = ("-", (0, (5, 3)), (0, (3, 4)), (0, (1, 3)))
"""Line styles that tell lines on top of each other apart."""


def draw(
    text: FigureText, data: DemandResponse, names: Sequence[str], shown_s: float, file: Path
) -> None:
    """Draws power and throughput over the time, and the gain over the power target.

    Args:
        text: Texts of the figure.
        data: The runs.
        names: Controllers.
        shown_s: Part of the first seed that is drawn, in seconds.
        file: Stem of the files.
    """
    ratios = {"width_ratios": [1.4, 1.4, 1.0]}
    with saved_plot(stem(file), 1, 3, (12.6, 3.9), formats=FORMATS, gridspec_kw=ratios) as (
        figure,
        (power, rate, gain),
    ):
        for number, name in enumerate(names):
            own = data.of(name)
            own = own[own["time_s"] <= shown_s]
            color = CONTROLLERS.get(name, (name, BLACK))[1]
            style: dict[str, Any] = {"color": color, "ls": _DASHES[number % len(_DASHES)]}
            power.plot(own["time_s"], own["power_w"], lw=1.6, label=controller_label(name), **style)
            rate.plot(own["time_s"], own["throughput_tok_s"], lw=1.6, **style)
            if name != BASE:
                _gain(gain, data, name, {**style, "ms": 9 - 2 * number})
        target = {"color": BLACK, "ls": "--", "lw": 1.2, "label": "power target"}
        power.plot(own["time_s"], own["budget_w"], **target)
        level(gain, 100 * text.claims["throughput"].paper, text.phrase("gain_mark"))
        power.set_title("(a) Power of the nodes, W")
        rate.set_title("(b) Output tokens/s")
        gain.set_title("(c) Throughput gain, %")
        for axis in (power, rate):
            axis.set_xlabel("Time, s")
        rate.set_ylim(bottom=0)
        gain.set_xlabel("Power target, W")
        handles, labels = power.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6)


def _gain(axis: Any, data: DemandResponse, name: str, style: dict[str, Any]) -> None:
    targets, gains = data.gains(name)
    values = [interval_of(100.0 * row) for row in gains]
    axis.plot(targets, [value.value for value in values], "o", **style)
    low, high = [value.low for value in values], [value.high for value in values]
    axis.fill_between(targets, low, high, color=style["color"], alpha=0.2, lw=0)
