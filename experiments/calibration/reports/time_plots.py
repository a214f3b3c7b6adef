"""Plots of power and step time through changes of the load: measured and simulated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.calibration.validation.time_series import Played
from experiments.reporting.plot_style import BLUE, GREY, ORANGE, saved_plot

_COLUMNS = 3


def draw_load_steps(played: Sequence[Played], file: Path) -> Path:
    """Draws the power of one GPU through every load step, one panel each."""
    rows = -(-len(played) // _COLUMNS)
    with saved_plot(file, rows, _COLUMNS, (11.0, 2.4 * rows)) as (_, axes):
        panels = np.atleast_1d(axes).ravel()
        for axis, p in zip(panels, played, strict=False):
            axis.plot(p.load.time_s, p.load.power_w, "o-", color=GREY, ms=3, label="measured")
            axis.plot(p.load.time_s, p.power_w, "-", color=BLUE, label="simulated")
            axis.set(title=p.load.name, xlabel="s", ylabel="W of one GPU", ylim=(0.0, None))
        panels[0].legend(loc="best")
        for axis in panels[len(played) :]:
            axis.set_visible(False)
    return file


def draw_arrivals(played: Played, file: Path) -> Path:
    """Draws power and step time under recorded arrivals, window by window."""
    load = played.load
    with saved_plot(file, 2, 1, (9.0, 5.0)) as (_, axes):
        for axis, real, simulated, label in (
            (axes[0], load.power_w, played.power_w, "W of one GPU"),
            (axes[1], 1e3 * load.iteration_s, 1e3 * played.iteration_s, "step time, ms"),
        ):
            axis.plot(load.time_s, real, color=GREY, label="measured")
            axis.plot(load.time_s, simulated, color=ORANGE, label="simulated")
            axis.set(xlabel="s", ylabel=label)
        axes[0].set(title=load.name)
        axes[0].legend(loc="lower right")
    return file


def draw_time_series(played: Sequence[Played], directory: Path) -> list[Path]:
    """Draws every plot of power in time for which there are loads."""
    drawn = []
    steps = [p for p in played if "poisson" not in p.load.name]
    if steps:
        drawn.append(draw_load_steps(steps, directory / "load_steps.png"))
    for p in played:
        if "poisson" in p.load.name:
            drawn.append(draw_arrivals(p, directory / "arrivals.png"))
    return drawn
