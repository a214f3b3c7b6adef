"""The table of signed errors: computed from rows and calibration, with the right sign."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import validate
from experiments.calibration.data.readers import read_folder
from experiments.calibration.reports.signed_errors import signed, signed_tables
from experiments.calibration.validation import operating_points as module
from experiments.calibration.validation.cross_validation import installed
from experiments.calibration.validation.operating_points import OperatingPoint, operating_points

MEASURED = Path(__file__).resolve().parents[4] / "docs" / "measurements" / "h100"


@pytest.fixture(scope="module")
def points() -> list[OperatingPoint]:
    return operating_points(read_folder(MEASURED)[0].measurements)


def errors_of(table: str, column: int) -> list[float]:
    """Errors of the first kind of row, from one column of its table."""
    part = table.split("### ")[2]
    cells = [line.split("|")[column].strip() for line in part.splitlines() if "%" in line]
    return [float(cell.removesuffix(" %")) for cell in cells]


def test_an_error_is_simulated_over_measured_and_signed() -> None:
    assert signed(110.0, 100.0) == "+10.0 %"
    assert signed(75.0, 100.0) == "-25.0 %"


def test_what_the_simulator_says_itself_has_no_error(points: list[OperatingPoint]) -> None:
    def as_simulated(p: OperatingPoint, factor: float) -> OperatingPoint:
        said = p.simulated
        return replace(
            p,
            measurement=replace(
                p.measurement,
                itl_s=None if p.measurement.itl_s is None else factor * said["itl"],
                tpot_s=factor * said["tpot"],
                power_w=factor * said["power"],
            ),
        )

    same = signed_tables([as_simulated(p, 1.0) for p in points], [], [])
    twice = signed_tables([as_simulated(p, 2.0) for p in points], [], [])
    for column in (6, 9):
        assert set(errors_of(same, column)) == {0.0}
        assert set(errors_of(twice, column)) == {-50.0}


def test_the_errors_follow_the_calibration(
    points: list[OperatingPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(installed(points[0].measurement.gpu), engines={})  # the host waits its turn
    slower = replace(plain, step_s=plain.step_s + 5e-3)
    results = []
    for calibration in (plain, slower):
        monkeypatch.setattr(module, "installed", lambda gpu, found=calibration: found)
        results.append(operating_points([p.measurement for p in points]))
    for before, after in zip(*results, strict=True):
        if before.kind == module.DECODE:
            later = after.simulated["itl"] - before.simulated["itl"]
            assert later == pytest.approx(5e-3)


def test_the_engine_knows_no_temperature(points: list[OperatingPoint]) -> None:
    m = next(p.measurement for p in points if p.measurement.temperature_c is not None)
    warm, cold = operating_points([m, replace(m, temperature_c=20.0)])
    assert warm.simulated == cold.simulated


def test_expert_reads_of_a_made_up_machine_give_its_efficiency_back(
    points: list[OperatingPoint],
) -> None:
    moe = [p for p in points if p.coverage is not None and p.measurement.run.endswith(" 128")]
    model, gpu = moe[0].measurement.model, moe[0].measurement.gpu
    made_up = []
    for p in moe:
        assert p.coverage is not None
        read_s = model.expert_bytes * p.coverage[1] / (0.7e12 * gpu.memory_bandwidth_tb_s)
        made_up.append(replace(p, measurement=replace(p.measurement, itl_s=2e-3 + read_s)))
    found = [module.implied_efficiency(p, made_up) for p in made_up]
    assert found[0] is None, "nothing is smaller than the smallest batch"
    assert found[1:] == pytest.approx([0.7] * (len(made_up) - 1))


def test_the_engine_of_the_tables_is_slower_the_more_sequences_there_are(
    points: list[OperatingPoint],
) -> None:
    saved = {
        p.measurement.batch: p.own_engine["itl"] - p.simulated["itl"]
        for p in points
        if p.kind == module.DECODE and p.measurement.model.name == "llama31_8b"
    }
    assert 0.0 < saved[1.0] < 2e-3
    assert saved[256.0] > 5e-3


def test_where_the_limit_acts_a_step_is_also_simulated_at_the_measured_clock(
    points: list[OperatingPoint],
) -> None:
    held = [p for p in points if p.held is not None]
    assert len(held) > 10
    for p in points:
        clock = p.measurement.clock_fraction
        assert clock is not None
        assert (p.held is not None) == (clock < module.LIMITED_CLOCK)
        assert p.natural_w >= p.simulated["power"] - 1e-6
    for p in held:
        assert p.held is not None
        if p.simulated["binding"] == 0.0:
            assert p.held[0] > p.simulated["tpot"], "a lower clock takes longer"
            assert p.held[1] < p.natural_w


def test_coverage_is_that_of_the_calibration_and_of_uniform_routing(
    points: list[OperatingPoint],
) -> None:
    found = {p.measurement.batch: p.coverage for p in points if p.coverage}
    assert found[1.0] == pytest.approx((8 / 128, 8 / 128))
    assert found[16.0] is not None
    assert found[16.0][1] == pytest.approx(1.0 - (120 / 128) ** 16)
    assert found[16.0][0] < found[16.0][1], "calibrated popularity is uneven"
    assert all(p.uniform is None for p in points if not p.measurement.model.experts)


def test_the_command_fills_a_page_from_the_rows_it_is_given(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    run = tmp_path / "data" / "llama31_8b_decode"
    shutil.copytree(MEASURED / run.name, run)
    table = pd.read_csv(run / "rows.csv")
    decode = table.phase == "decode"
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- begin simulator -->\n<!-- end simulator -->\nbelow\n")
    said = []
    for factor in (1.0, 2.0):
        changed = table.copy()
        changed.loc[decode, "server_itl_ms"] = factor * table.server_itl_ms[decode]
        changed.to_csv(run / "rows.csv", index=False)
        outcome = command(
            validate.main, f"data={run.parent}", "held_out=false", f"page={page}"
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        text = page.read_text()
        assert re.match("above\n.*### Decode.*### Idle.*\nbelow\n$", text, re.DOTALL)
        block = text.split("<!-- begin simulator -->\n")[1].split("\n<!-- end")[0]
        assert block in (tmp_path / "out" / "validation.md").read_text()
        said.append(errors_of(block, 6))
    assert len(said[0]) == decode.sum()
    for once, twice in zip(*said, strict=True):
        assert 1.0 + twice / 100.0 == pytest.approx((1.0 + once / 100.0) / 2.0, abs=2e-3)
