"""Fronts of efficiency against violations, each with its band and its name beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.evaluation.fronts import (
    WORST_RATE,
    Episodes,
    FrontStatistics,
    efficiency_at,
    front,
    limits_of_bands,
    with_clock,
    without_clock,
)
from experiments.reporting.plot_style import (
    BLACK,
    BLUE,
    COLORS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    distinct_colors,
    optional_plot,
    saved_plot,
    toned,
)

Lines = Mapping[str, tuple[Episodes, FrontStatistics]]
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
_LABEL_STEP = 0.042
"""Least distance of two names, as a fraction of the axis's height."""


class Look(NamedTuple):
    """How a front is drawn.

    Attributes:
        color: Its colour.
        style: Its dashes.
        width: Width of its line.
        label: The name beside it.
    """

    color: str
    style: Any
    width: float
    label: str


@optional_plot
def draw_front_lines(lines: Lines, title: str, file: Path) -> None:
    """Draws a line with its 95 % band for each front, all of them alike.

    Args:
        lines: Episodes and statistics of each front.
        title: What the plot says.
        file: Where it goes.
    """
    looks = {
        name: Look(color, _DASHES[n // len(COLORS) % len(_DASHES)], 1.2, name)
        for n, (name, color) in enumerate(zip(lines, distinct_colors(len(lines)), strict=True))
    }
    _draw(lines, looks, None, None, title, file)


@optional_plot
def draw_comparison(
    lines: Lines, subject: str, planner: str, bound: str, kin: str, limit: float, file: Path
) -> None:
    """Draws the comparison that the results begin with: four groups of lines below a bound.

    Args:
        lines: Episodes and statistics of each front.
        subject: The agent: the thickest line.
        planner: The planner on a twin.
        bound: The front that shades what nobody reached.
        kin: Part of the names of the controllers that the agent is compared with.
            Fronts named as agent, planner or bound with ``_clock`` behind, which may move the SM
            clock, too, have the same colours.
        limit: The rate of violations that is asked for.
        file: Where it goes.
    """
    looks: dict[str, Look] = {}
    warm = [(ORANGE, "-"), (RED, "--"), (PURPLE, "-."), (SKY, "--")]
    dark = [(toned(color, 0.6), ":") for color, _ in warm]
    own = iter([*warm, *dark])
    others = 0
    for name in lines:
        base = without_clock(name)
        style: Any = "-" if name == base else (0, (4, 1.5))
        if base == subject:
            looks[name] = Look(BLUE, style, 2.8, f"{name} (learned)")
        elif base == planner:
            looks[name] = Look(GREEN, style, 2.2, f"{name} (plans on a twin)")
        elif base == bound:
            looks[name] = Look(BLACK, style, 1.2, f"{name} (knows the future)")
        elif kin in name:
            color, style = next(own, (SKY, "--"))
            looks[name] = Look(color, style, 1.8, name)
        else:
            looks[name] = Look(GREY, _DASHES[1 + others % (len(_DASHES) - 1)], 1.0, name)
            others += 1
    title = "Tokens per joule at every level of violations: up and left is better"
    bounds = [name for name in (with_clock(bound), bound) if name in lines]
    _draw(lines, looks, bounds[0] if bounds else None, limit, title, file)


def _draw(
    lines: Lines,
    looks: Mapping[str, Look],
    bound: str | None,
    limit: float | None,
    title: str,
    file: Path,
) -> None:
    limits = limits_of_bands()
    with saved_plot(file, 1, 1, (7.6, 4.8)) as (_, axis):
        ends: dict[str, float] = {}
        tops = []
        for name, (episodes, known) in lines.items():
            look = looks[name]
            efficiency, violations = episodes.means()
            at = efficiency_at(efficiency, violations, limits)
            if np.isnan(at).all():
                continue
            kept = [one for one in front(efficiency, violations) if violations[one] <= WORST_RATE]
            axis.fill_between(
                100 * limits, known.low, known.high, color=look.color, alpha=0.14, lw=0
            )
            x = np.append(violations[kept], WORST_RATE)
            y = np.append(efficiency[kept], at[-1])
            axis.plot(100 * x, y, ls=look.style, lw=look.width, color=look.color)
            axis.plot(100 * x[:-1], y[:-1], "o", ms=2.0 + look.width, color=look.color)
            ends[name] = float(at[-1])
            tops.append(float(at[-1]))
        axis.set_xlim(0, 100 * WORST_RATE)
        low = min([1.0, *(float(np.nanmin(known.low)) for _, known in lines.values()
                          if not np.isnan(known.low).all())])  # fmt: skip
        high = max([1.02, *tops])
        axis.set_ylim(low - 0.01, high + 0.09 * (high - low) + 0.01)
        if bound is not None and bound in ends:
            _shade(axis, lines[bound][0], limits)
        if limit is not None:
            axis.axvline(100 * limit, color=BLACK, lw=0.8, ls=":")
            axis.text(100 * limit + 0.08, low, f"asked: {100 * limit:g} %", fontsize=8)
        _name(axis, ends, looks)
        axis.set_xlabel("QoS violations within the power budget, % of time")
        axis.set_ylabel("Tokens per joule, relative to Baseline")
        axis.set_title(title)


def _shade(axis: Any, episodes: Episodes, limits: Any) -> None:
    """Greys what lies above a front."""
    fine = np.linspace(limits[0], limits[-1], 401)
    at = efficiency_at(*episodes.means(), fine)
    top = axis.get_ylim()[1]
    axis.fill_between(100 * fine, at, top, where=~np.isnan(at), color=BLACK, alpha=0.09, lw=0)
    axis.text(
        100 * limits[-1] - 0.15, top - 0.012 * (top - axis.get_ylim()[0]),
        "not reached even with the future known", ha="right", va="top", fontsize=8, color="#555555",
    )  # fmt: skip


def _name(axis: Any, ends: Mapping[str, float], looks: Mapping[str, Look]) -> None:
    """Writes the names right of the lines' ends, apart from each other."""
    low, high = axis.get_ylim()
    order = sorted(ends, key=lambda name: ends[name])
    heights = spread([ends[name] for name in order], _LABEL_STEP * (high - low), low, high)
    for name, height in zip(order, heights, strict=True):
        look = looks[name]
        axis.annotate(
            look.label, (100 * WORST_RATE, ends[name]), xytext=(100 * WORST_RATE * 1.03, height),
            va="center", fontsize=8.5, color="#555555" if look.color == GREY else look.color,
            fontweight="bold" if look.width >= 2.0 else "normal", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": look.color, "lw": 0.6, "relpos": (0.0, 0.5),
                        "shrinkA": 1, "shrinkB": 0},
        )  # fmt: skip


def spread(heights: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Returns heights, in their order, that are at least a step apart and stay near their own.

    Args:
        heights: Ascending heights.
        step: Least distance.
        low: Lowest height there is room for.
        high: Highest.
    """
    step = min(step, (high - low) / max(1, len(heights)))
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + step) if placed else max(height, low))
    ceiling = high
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - step
    return placed
