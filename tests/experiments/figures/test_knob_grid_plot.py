"""The labels of figure 3 can be told from each other, whatever a model's throughput."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.figures.fig03 import plot

MOST_TOKENS_PER_S = {"slow": 8_100.0, "middle": 21_100.0, "fast": 31_700.0, "odd": 174_000.0}


def states() -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for model, most in MOST_TOKENS_PER_S.items():
        for number, speed in enumerate((0.1 * most, most)):
            rate, each = [speed], [30.0 - number]
            state = SimpleNamespace(tokens_per_s=lambda x=rate: x, per_joule=lambda x=each: x)
            found[_Point(model, number)] = state
    return found


class _Point(SimpleNamespace):
    def __init__(self, model: str, number: int) -> None:
        super().__init__(model=model, number=number)

    def __hash__(self) -> int:
        return hash((self.model, self.number))


def test_ticks_do_not_run_into_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    drawn: list[Any] = []
    saved = plot.saved_plot

    @contextmanager
    def kept(*arguments: Any, **options: Any) -> Iterator[Any]:
        with saved(*arguments, **options) as (figure, axes):
            yield figure, axes
            figure.draw_without_rendering()
            for axis in axes[0]:
                labels = [label for label in axis.get_xticklabels() if label.get_text()]
                drawn.append([label.get_window_extent() for label in labels])

    monkeypatch.setattr(plot, "saved_plot", kept)
    sets = SimpleNamespace(members=lambda: {plot.SOFTWARE: lambda point: True})
    text: Any = SimpleNamespace(claims={"joint": SimpleNamespace(papers=dict)})
    data: Any = SimpleNamespace(states=states(), sets=sets)
    plot.draw(text, data, list(MOST_TOKENS_PER_S), tmp_path / "fig03.png")
    assert len(drawn) == len(MOST_TOKENS_PER_S)
    for boxes in drawn:
        assert len(boxes) > 2
        assert all(left.x1 + 4 < right.x0 for left, right in pairwise(boxes))
