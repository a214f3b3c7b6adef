from __future__ import annotations

import numpy as np
import pandas
import pytest

from envs.knobs import Knobs
from envs.objectives.conditions import Conditions
from envs.telemetry import NUMERIC_FIELDS, Telemetry
from experiments.records.interval_table import IntervalTable, interval_row


def info(**telemetry):
    return {
        "telemetry": Telemetry(gpu_power_w=(100.0, 110.0), **telemetry),
        "conditions": Conditions(target_tok_s=900.0),
        "knobs": Knobs(250.0, 32, None),
        "rewards": {"efficiency": 0.25, "qos": -1.0},
        "cost": 1.0,
        "throughput_tok_s": 880.0,
        "violation_backlog": 1.0,
        "violation_plain": 1.0,
    }


def test_a_row_holds_all_telemetry_and_what_was_asked():
    row = interval_row(-0.75, info(output_tokens=450.0))
    assert set(NUMERIC_FIELDS) <= set(row)
    assert row["output_tokens"] == 450.0
    assert (row["gpu0_power_w"], row["gpu1_power_w"]) == (100.0, 110.0)
    assert (row["requested_power_cap_w"], row["requested_max_num_seqs"]) == (250.0, 32.0)
    assert (row["reward"], row["reward_qos"], row["cost"]) == (-0.75, -1.0, 1.0)


def test_what_does_not_apply_is_none():
    row = interval_row(0.0, info())
    assert row["power_budget_w"] is None
    assert row["ttft_slo_s"] is None
    assert row["requested_sm_clock_mhz"] is None
    assert row["target_tok_s"] == 900.0


def test_file_has_nulls_where_memory_has_nan(tmp_path):
    table = IntervalTable()
    table.append({"time_s": 0.5, "budget": None})
    table.append({"time_s": 1.0, "budget": 7.0, "late": 3.0})
    table.write_parquet(tmp_path / "t.parquet")
    assert np.isnan(table["budget"][0])
    frame = pandas.read_parquet(tmp_path / "t.parquet")
    assert list(frame.columns) == ["time_s", "budget", "late"]
    assert frame["budget"].isna().tolist() == [True, False]
    assert frame["late"].tolist()[1] == 3.0
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_totals_are_exact_where_a_running_sum_is_not():
    table = IntervalTable()
    for value in [1e16, 1.0, -1e16, 1.0]:
        table.append({"x": value})
    assert table.total("x") == 2.0


def test_added_column_needs_every_row():
    table = IntervalTable()
    table.append({"x": 1.0})
    table.add_column("y", np.array([2.0]))
    assert table["y"].tolist() == [2.0]
    with pytest.raises(ValueError, match=r"shorter|longer"):
        table.add_column("z", np.array([1.0, 2.0]))
