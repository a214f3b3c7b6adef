"""The studies of planning: their lines, what is believed in them, and what is made of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import build_server_spec
from envs.scenario import Scenario
from experiments import headroom, show_plan, twin_errors
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    TOKENS_PER_JOULE_RELATIVE,
    WITHIN_BUDGET,
)
from experiments.planning.bound import (
    HeadroomConfig,
    ahead_of_bound,
    bound_at,
    bound_entries,
    bound_report,
    draw_bound,
    points,
)
from experiments.planning.errors import (
    ERRORS,
    Arrivals,
    Drawn,
    Lengths,
    OtherGpu,
    TwinErrorsConfig,
    error_entries,
    error_report,
    prefix_cache,
)
from experiments.planning.study import AVERAGED


def rows_of(entries: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "scenario": scenario,
            "label": entry.label,
            **entry.facts,
            TOKENS_PER_JOULE_RELATIVE: float(rng.uniform(1.1, 1.5)),
            **dict.fromkeys(AVERAGED[2:], 0.01),
            CHANGES_PER_MINUTE: 20.0,
            WITHIN_BUDGET: float(rng.uniform(0.0, 0.1)),
        }
        for entry in entries
        for scenario in ("one", "two")
    ]


def test_the_bound_at_equal_violations() -> None:
    front = [("a", 0.0, 1.2), ("b", 0.04, 1.4), ("c", 0.02, 1.1)]
    assert bound_at(front, 0.02) == pytest.approx(1.3)  # of "a" and "b" in turn; "c" is worse
    assert bound_at(front, 0.03) == pytest.approx(1.35)
    assert bound_at(front, 0.5) == pytest.approx(1.4)
    assert bound_at([("a", 0.01, 1.2)], 0.0) is None
    assert bound_at([], 0.0) is None


def test_headroom_has_a_line_for_every_price_and_every_strength(tmp_path: Path) -> None:
    config = HeadroomConfig(
        prices=[0.3, 3.0], generations=[1, 4], horizons_s=[20.0], phases=[4], replans_s=[0.5],
        controllers=["pals"],
    )  # fmt: skip
    entries = bound_entries(config)
    for entry in entries:
        catalog.build("controller", entry.controller)
    rows = rows_of(entries)
    assert len(points(rows, sweep="price", planner="mpc")) == 2
    assert len(points(rows, sweep="search")) == 5
    table = bound_report(rows).split("\n\n")[0]
    assert table.count("\n") == 1 + len(entries)
    draw_bound(rows, ["clairvoyant", "mpc"], tmp_path / "front.png")
    short = [{**one, WITHIN_BUDGET: None} for one in rows]  # of episodes that are too short
    draw_bound(short, ["clairvoyant", "mpc"], tmp_path / "short.png")
    assert (tmp_path / "front.png").stat().st_size > 10_000


def test_where_the_bound_is_none() -> None:
    """A line that violates as little, and no more latency SLOs, and is more efficient."""

    def row(label: str, efficiency: float, violations: float, late: float, **facts: Any) -> Any:
        return {
            **dict.fromkeys(AVERAGED, 0.01),
            "scenario": "one", "label": label, TOKENS_PER_JOULE_RELATIVE: efficiency,
            WITHIN_BUDGET: violations, "slo_violation_rate": late, **facts,
        }  # fmt: skip

    best = [
        row("price 1", 1.3, 0.0, 0.05, planner="clairvoyant"),
        row("price 0.1", 1.4, 0.02, 0.05, planner="clairvoyant"),
    ]
    fewer = row("fewer", 1.35, 0.01, 0.05)
    late = row("late", 1.3, 0.0, 0.01)
    useless = [row("worse than Baseline", 0.8, 0.0, 0.0), row("reckless", 1.6, 0.4, 0.05)]
    equal = row("as good", 1.4, 0.02, 0.05)
    rows = [
        *best,
        *useless,
        fewer,
        late,
        equal,
        row("more", 1.41, 0.03, 0.5),
    ]
    found = {item.label: item.bound for item in ahead_of_bound(rows)}
    assert found == {"fewer": best[0], "late": None, "more": best[1]}
    assert "1.350 / 1" in bound_report(rows)
    assert "In no scenario" in bound_report([*best, equal])


def test_every_error_is_believed_by_every_controller() -> None:
    entries = error_entries(TwinErrorsConfig(draws=[1, 2]))
    assert len({entry.label for entry in entries}) == len(entries)
    assert {entry.facts["error"] for entry in entries} == set(ERRORS)
    for entry in entries:
        catalog.build("controller", entry.controller)
        believed = Scenario() if entry.believe is None else entry.believe(Scenario())
        believed.content()  # it can be written down, and kept runs told apart by it
    assert "without correction" in error_report(rows_of(entries))


def test_what_is_believed_is_wrong() -> None:
    scenario = Scenario()
    right = build_server_spec(scenario)
    drawn = build_server_spec(Drawn(1)(scenario))
    again = build_server_spec(Drawn(1)(scenario))
    other = build_server_spec(OtherGpu()(scenario))
    longer = build_server_spec(Lengths(2.0)(scenario))
    assert drawn.coefficients != right.coefficients
    assert drawn.coefficients == again.coefficients
    assert other.coefficients.name == "h100_sxm"
    assert other.gpu == right.gpu
    assert build_server_spec(prefix_cache(on=True)(scenario)).spec.prefix_caching
    assert not build_server_spec(prefix_cache(on=False)(scenario)).spec.prefix_caching
    bursts = build_server_spec(Arrivals("bursty_strong")(scenario)).workload
    believed = build_server_spec(Arrivals("poisson_gsm8k")(scenario)).workload
    assert (bursts.burst_ratio, bursts.lengths) == (4.0, right.workload.lengths)
    assert believed == right.workload
    with pytest.raises(ConfigurationError, match="trace"):
        Arrivals("bursty_strong")(Scenario(workload="azure_conv"))
    mean = right.workload.mean_output_tokens
    assert longer.workload.mean_output_tokens == pytest.approx(2 * mean, rel=0.01)


@pytest.mark.long
@pytest.mark.parametrize(
    ("app", "name", "overrides"),
    [
        (headroom.main, "headroom", ["prices=[1.0]", "generations=[1]", "controllers=[governor]"]),
        (twin_errors.main, "twin_errors", ["errors=[right,a prefix cache]", "controllers=[mpc]"]),
    ],
)
def test_the_commands_run(
    app: Any, name: str, overrides: list[str], command: Any, tmp_path: Path
) -> None:
    done = command(
        app, "suite.only=[steady_70]", "seeds=1", "duration=40", "executor.jobs=1", *overrides
    )
    assert done.code == 0, done.err
    assert (tmp_path / "out" / f"{name}.md").read_text(encoding="utf-8").startswith("|")


@pytest.mark.long
def test_plans_are_drawn(command: Any, tmp_path: Path) -> None:
    done = command(show_plan.main, "begin=10", "span=5")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "plans.png").stat().st_size > 10_000
