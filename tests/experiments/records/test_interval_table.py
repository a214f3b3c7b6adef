from __future__ import annotations

import numpy as np
import pandas
import pytest
from pyarrow import parquet

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
    with pytest.raises(ValueError, match="z: 2 values for 1 rows"):
        table.add_column("z", np.array([1.0, 2.0]))


def test_a_table_of_columns_is_written_whole(tmp_path):
    table = IntervalTable.from_columns({"x": np.array([1.0, np.nan, np.inf])})
    table.write_parquet(tmp_path / "t.parquet")
    written = parquet.read_table(tmp_path / "t.parquet")
    assert written["x"].to_pylist() == [1.0, None, None]


def test_rows_follow_columns():
    table = IntervalTable.from_columns({"x": np.array([1.0, 2.0])})
    for number in range(3, 200):
        table.append({"x": float(number), "y": -1.0})
    assert len(table) == 199
    assert table["x"].tolist() == [float(number) for number in range(1, 200)]
    assert np.isnan(table["y"][:2]).all()
    assert (table["y"][2:] == -1.0).all()


def test_an_empty_table_has_a_length():
    assert len(IntervalTable()) == 0
    assert len(IntervalTable.from_columns({})) == 0
    assert IntervalTable.concatenate([]).names == []


def test_columns_differ_in_length():
    with pytest.raises(ValueError, match="y: 1 values for 2 rows"):
        IntervalTable.from_columns({"x": np.zeros(2), "y": np.zeros(1)})


def test_a_column_is_a_copy():
    values = np.zeros(2)
    table = IntervalTable.from_columns({"x": values})
    values[0] = 5.0
    assert table["x"].tolist() == [0.0, 0.0]


def test_tables_one_after_another():
    first = IntervalTable.from_columns({"x": np.array([1.0])})
    second = IntervalTable.from_columns({"x": np.array([2.0]), "y": np.array([3.0])})
    both = IntervalTable.concatenate([first, second])
    assert both["x"].tolist() == [1.0, 2.0]
    np.testing.assert_array_equal(both["y"], [np.nan, 3.0])


def test_frames_have_the_columns():
    table = IntervalTable()
    table.append({"time_s": 0.5, "budget": None})
    frame = table.to_pandas()
    assert list(frame.columns) == ["time_s", "budget"]
    assert frame["budget"].isna().tolist() == [True]
