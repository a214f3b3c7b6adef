"""No two lines of one plot have one colour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from experiments.benchmarking import plot as benchmark_plot
from experiments.evaluation.metric_table import TOKENS_PER_JOULE_RELATIVE, WITHIN_BUDGET
from experiments.figures.plot_marks import CONTROLLERS
from experiments.reporting import front_plot
from experiments.reporting.plot_style import COLORS, distinct_colors, toned

NAMES = ["static", *(f"controller_{number}" for number in range(12))]


class Axis:
    """Keeps the colour of every label that is drawn."""

    def __init__(self) -> None:
        self.colors: dict[str, str] = {}

    def plot(self, *_: Any, color: str, label: str = "", **__: Any) -> None:
        if label and not label.startswith("_"):
            self.colors[label] = color

    def __getattr__(self, _: str) -> Any:
        return lambda *args, **kwargs: None


def test_colours_are_there_once_and_begin_with_the_palette() -> None:
    colors = distinct_colors(56)
    assert len(set(colors)) == 56
    assert tuple(colors[: len(COLORS)]) == COLORS
    assert len(distinct_colors(100)) == 100


def test_tones_are_darker_and_lighter() -> None:
    assert toned("#804000", 0.5) == "#402000"
    assert toned("#804000", 2.0) == "#FFFFFF"
    assert toned("#804000", 1.0) == "#804000"


@pytest.mark.parametrize("draw", ["draw_overall", "draw_scenarios"])
def test_a_benchmark_of_many_gives_each_a_colour(
    draw: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    axis = Axis()

    @contextmanager
    def saved(_: Path, rows: int, columns: int, *__: Any, **___: Any) -> Iterator[Any]:
        yield None, axis if rows * columns == 1 else [axis] * columns

    metrics = {TOKENS_PER_JOULE_RELATIVE: 1.2, WITHIN_BUDGET: 0.01, "tokens_per_joule": 1.0}
    results = {"steady": {name: [metrics, metrics] for name in NAMES}}
    monkeypatch.setattr(benchmark_plot, "saved_plot", saved)
    getattr(benchmark_plot, draw)(results, NAMES, tmp_path / "plot.png")
    assert set(axis.colors) == set(NAMES)
    assert len(set(axis.colors.values())) == len(NAMES)


def test_all_of_kin_have_a_colour_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks: dict[str, Any] = {}
    monkeypatch.setattr(front_plot, "_draw", lambda _, given, *rest: looks.update(given))
    lines: Any = dict.fromkeys(["ppo", "mpc", "clairvoyant", *(f"pals_{n}" for n in range(7))])
    front_plot.draw_comparison(lines, "ppo", "mpc", "clairvoyant", "pals", 0.02, tmp_path / "a.png")
    assert len({look.color for look in looks.values()}) == len(lines)


def test_no_controller_of_the_figures_has_anothers_colour() -> None:
    colors = [color for _, color in CONTROLLERS.values()]
    assert len(set(colors)) == len(colors)
