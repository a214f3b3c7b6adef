"""The template of a W&B report shows what runs write, and says what it lacks."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from examples import wandb_report
from experiments.evaluation.metric_table import METRICS
from pals_gym import Scenario, evaluate


class Part(SimpleNamespace):
    """Anything that the package for reports makes: it keeps what it was given."""

    def __init__(self, text: str = "", **given: Any) -> None:
        super().__init__(text=text, **given)


class Report(Part):
    saved: tuple[bool, ...] = ()
    url = "https://wandb.example/report"

    def save(self, *, draft: bool) -> None:
        Report.saved += (draft,)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ScatterPlot", "BarPlot", "LinePlot", "H1", "P", "PanelGrid", "Runset")
    made = SimpleNamespace(Report=Report, **dict.fromkeys(names, Part))
    reports = SimpleNamespace(v2=made)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", SimpleNamespace(reports=reports))
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports", reports)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", made)


@pytest.mark.usefixtures("package")
def test_it_shows_metrics_and_columns_that_runs_have() -> None:
    made = wandb_report.report("me", "mine", "Title")
    grids = [block for block in made.blocks if hasattr(block, "panels")]
    assert {(set_.entity, set_.project) for grid in grids for set_ in grid.runsets} == {
        ("me", "mine")
    }
    overview, lines = (grid.panels for grid in grids)
    metrics = {name for panel in overview[1:] for name in panel.metrics}
    assert metrics | {overview[0].x, overview[0].y} <= set(METRICS)
    rows = evaluate("static", Scenario(duration_s=10.0), seeds=1).intervals
    assert {name for panel in lines for name in [panel.x, *panel.y]} <= set(rows.columns)


@pytest.mark.usefixtures("package")
def test_it_is_saved_as_a_draft(capsys: pytest.CaptureFixture[str]) -> None:
    wandb_report.main(["--project", "mine"])
    assert Report.saved == (True,)
    assert capsys.readouterr().out == "https://wandb.example/report\n"


def test_without_its_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(SystemExit, match="pip install wandb-workspaces"):
        wandb_report.main([])
