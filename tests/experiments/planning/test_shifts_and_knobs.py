"""Shifts of the server, and the choice of knobs: their lines, and what is concluded from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import build_server_spec
from envs.scenario import Scenario
from experiments import knob_study, shift_study
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    TOKENS_PER_JOULE_RELATIVE,
    WITHIN_BUDGET,
)
from experiments.evaluation.suites import Suite
from experiments.planning.knobs import KnobStudyConfig, knob_entries, knob_report
from experiments.planning.shifts import (
    Parts,
    Shift,
    ShiftConfig,
    shift_entries,
    shift_report,
    verdict_of,
)

SUITE: Suite = catalog.build("suite", {"base": "test", "only": ["steady_70", "budget_steps"]})


@pytest.mark.parametrize("name", catalog.names("shift"))
def test_every_shift_can_be_simulated_and_believed(name: str) -> None:
    shift: Shift = catalog.build("shift", name)
    for own in SUITE.scenarios.values():
        scenario = Parts(shift.actual)(own).scenario(Scenario())
        build_server_spec(scenario)
        believed = Parts(shift.believed or {})(scenario)
        build_server_spec(believed)
        if shift.believed is not None:
            assert believed.content() != scenario.content()


def test_what_is_changed() -> None:
    own = SUITE.scenarios["steady_70"]
    before = build_server_spec(own.scenario(Scenario()))

    def after(name: str) -> Any:
        return build_server_spec(
            Parts(catalog.build("shift", name).actual)(own).scenario(Scenario())
        )

    longer = after("longer").workload.mean_output_tokens
    assert longer == pytest.approx(3 * before.workload.mean_output_tokens, rel=0.02)
    assert after("other_calibration").coefficients.name == "h100_sxm"
    assert after("other_calibration").gpu.name == before.gpu.name
    assert after("engine").coefficients.sequence_s < before.coefficients.sequence_s
    assert after("prefix_caching").spec.prefix_caching
    assert after("other_model").model.name != before.model.name
    again = build_server_spec(
        Parts(catalog.build("shift", "longer").believed)(
            Parts(catalog.build("shift", "longer").actual)(own).scenario(Scenario())
        )
    )
    assert again.workload.mean_output_tokens == before.workload.mean_output_tokens


def rows_of(entries: Any, values: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    return [
        {
            "scenario": "one", "label": entry.label, **entry.facts,
            TOKENS_PER_JOULE_RELATIVE: values[entry.label][0],
            WITHIN_BUDGET: values[entry.label][1],
            "ttft_p99_s": 1.0, CHANGES_PER_MINUTE: 2.0,
        }
        for entry in entries
    ]  # fmt: skip


def test_who_holds_and_who_breaks() -> None:
    config = ShiftConfig(shifts=["none", "longer"], controllers=["pals", "slack", "clairvoyant"])
    rows = rows_of(
        shift_entries(config),
        {
            "pals, none": (1.2, 0.01), "slack, none": (1.2, 0.01), "clairvoyant, none": (1.4, 0.0),
            "pals, longer": (1.2, 0.05), "slack, longer": (1.05, 0.0),
            "clairvoyant, longer": (1.4, 0.01),
        },
    )  # fmt: skip
    found = {name: verdict_of(rows, name, "longer") for name in config.controllers}
    assert found == {"pals": "breaks", "slack": "loses", "clairvoyant": "holds"}
    text = shift_report(rows)
    assert "1.200, 5.0 % **breaks** | 1.050, 0.0 % *loses* | 1.400, 1.0 % |" in text


def test_shifts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"shift\.actual: engine is no part"):
        Shift(title="x", actual={"engine": {}})
    with pytest.raises(ConfigurationError, match="title"):
        Shift()
    with pytest.raises(ConfigurationError, match="'none' has to be among them"):
        shift_entries(ShiftConfig(shifts=["longer"], controllers=["pals"]))


def test_each_controller_has_a_line_for_each_of_its_knobs() -> None:
    knobs = {"cap": {"base": "grid"}, "clock": {"base": "grid", "sm_clock": True}}
    config = KnobStudyConfig(knobs=knobs, controllers={"slack": ["cap", "clock"], "pals": ["cap"]})
    entries = knob_entries(config)
    assert [entry.label for entry in entries] == ["slack, cap", "slack, clock", "pals, cap"]
    assert entries[1].controller == {"base": "slack", "action": knobs["clock"]}
    rows = rows_of(
        entries,
        {"slack, cap": (1.2, 0.01), "slack, clock": (1.25, 0.02), "pals, cap": (1.1, 0.0)},
    )
    text = knob_report(rows)
    assert "| `slack` | 1.200, 1.0 % | 1.250, 2.0 % |" in text
    assert "| `pals` | 1.100, 0.0 % | – |" in text
    with pytest.raises(ConfigurationError, match=r"controllers\.pals: 'both' is none"):
        knob_entries(KnobStudyConfig(knobs=knobs, controllers={"pals": ["both"]}))


def test_a_clock_saves_where_the_cap_stays(command: Any, tmp_path: Path) -> None:
    done = command(
        knob_study.main, "controllers={slack: [cap, clock]}", "suite.only=[steady_70]", "seeds=1",
        "duration=40", "executor.jobs=1",
    )  # fmt: skip
    assert done.code == 0, done.err
    text = (tmp_path / "out" / "knob_study.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| `slack` |"))
    cap, clock = (float(cell.split(",")[0]) for cell in line.split("|")[2:4])
    assert cap > 1.05
    assert clock > 1.05
    assert cap != clock


@pytest.mark.long
def test_the_study_of_shifts_runs(command: Any, tmp_path: Path) -> None:
    done = command(
        shift_study.main, "controllers=[governor,slack]", "shifts=[none,longer,engine]",
        "suite.only=[steady_70]", "seeds=1", "duration=40", "executor.jobs=1",
    )  # fmt: skip
    assert done.code == 0, done.err
    text = (tmp_path / "out" / "shift_study.md").read_text(encoding="utf-8")
    assert "| requests three times as long as believed | " in text
