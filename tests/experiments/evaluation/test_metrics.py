from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from envs.latency import LatencyRecord, bucket_of
from envs.objectives.qos import QoSConfig
from experiments.evaluation.metrics import knob_changes, summarise, write_json
from experiments.evaluation.rollout import Episode
from experiments.records.interval_table import IntervalTable

ROW = {
    "time_s": 0.0, "duration_s": 0.5, "prompt_tokens": 1000.0, "output_tokens": 400.0,
    "arrivals": 3.0, "finished": 2.0, "rejected": 0.0, "running": 5.0, "waiting": 1.0,
    "preemptions": 0.0, "energy_gpu_j": 400.0, "energy_system_j": 600.0, "cap_binding": 0.5,
    "target_tok_s": 800.0, "power_budget_w": None, "ttft_slo_s": None, "tpot_slo_s": None,
    "requested_power_cap_w": 400.0, "requested_max_num_seqs": 64.0,
    "requested_sm_clock_mhz": None, "throughput_tok_s": 800.0, "reward": 0.1, "cost": 0.0,
    "violation_backlog": 0.0, "violation_plain": 0.0,
    "prefix_cache_queries": 0.0, "prefix_cache_hits": 0.0,
}  # fmt: skip


def context(scope="gpu", warmup_s=1.0):
    return SimpleNamespace(
        qos=QoSConfig(warmup_s=warmup_s), power_scope=scope, system_power=(1.5, 100.0),
        num_gpus=4, capacity_tok_s=1000.0, offered_tok_s=800.0,
    )  # fmt: skip


def episode(*changes, latency=None):
    table = IntervalTable()
    for number, change in enumerate(changes):
        table.append({**ROW, "time_s": 0.5 * (number + 1), **change})
    return Episode(table, latency or LatencyRecord(), "modelled")


def test_efficiency_counts_prompt_and_output_tokens_over_gpu_energy():
    summary = summarise(episode({}, {}), context())
    assert summary.tokens_per_joule == pytest.approx(2 * 1400 / 800)
    assert summary.tokens_per_joule_system == pytest.approx(2 * 1400 / 1200)
    assert summary.output_tokens_per_joule == pytest.approx(1.0)
    assert summary.throughput_tok_s == pytest.approx(800.0)
    assert summary.power_mean_w == pytest.approx(800.0)


def test_warmup_is_left_out_of_qos_but_not_of_energy():
    bad = {"violation_backlog": 1.0, "violation_plain": 1.0, "energy_gpu_j": 1000.0}
    summary = summarise(episode(bad, bad, {}, {}), context(warmup_s=1.0))
    assert summary.qos_violation_rate_backlog == 0.0
    assert summary.qos_violation_rate_plain == 0.0
    assert summary.energy_gpu_j == 2800.0
    late = summarise(episode({}, {}, bad, {}), context(warmup_s=1.0))
    assert late.qos_violation_rate_plain == 0.5


def test_what_does_not_apply_is_null_not_nan():
    summary = summarise(episode({"target_tok_s": 0.0}), context(warmup_s=0.0))
    for key in (
        "qos_violation_rate", "qos_violation_rate_backlog", "qos_violation_rate_plain",
        "slo_violation_rate", "power_tracking_error_w", "budget_overshoot_rate",
        "ttft_p50_s", "tpot_p99_s",
    ):  # fmt: skip
        assert summary.to_dict()[key] is None, key
    assert not any(isinstance(v, float) and math.isnan(v) for v in summary.to_dict().values())


def test_nothing_is_evaluated_when_the_warmup_outlasts_the_run():
    summary = summarise(episode({}, {}), context(warmup_s=60.0))
    assert summary.qos_violation_rate_plain is None


def test_tracking_error_is_the_mean_distance_from_the_budget():
    summary = summarise(
        episode({"power_budget_w": 700.0}, {"power_budget_w": 1000.0}, {}), context()
    )
    assert summary.power_tracking_error_w == pytest.approx((100 + 200) / 2)
    assert summary.power_overshoot_mean_w == pytest.approx((100 + 0) / 2)
    assert summary.budget_overshoot_rate == pytest.approx(0.5)


def test_a_system_budget_covers_the_node():
    # 800 W of GPUs draw 1.5 * 800 + 100 = 1300 W with their node.
    summary = summarise(episode({"power_budget_w": 1200.0}), context(scope="system"))
    assert summary.power_tracking_error_w == pytest.approx(100.0)


def test_knob_changes_count_intervals_with_other_knobs():
    table = episode(
        {}, {"requested_power_cap_w": 300.0}, {"requested_power_cap_w": 300.0},
        {"requested_power_cap_w": 300.0, "requested_max_num_seqs": 8.0},
        {"requested_sm_clock_mhz": 900.0},
    ).table  # fmt: skip
    assert knob_changes(table) == 3
    assert knob_changes(episode({}, {}, {}).table) == 0


def test_latency_and_slo_come_from_the_whole_run():
    latency = LatencyRecord(finished=8, slo_missed=1, slo_overdue=2)
    latency.ttft[bucket_of(0.25)] = 99
    latency.ttft[bucket_of(3.0)] = 1
    summary = summarise(episode({"ttft_slo_s": 1.0}, latency=latency), context())
    assert summary.ttft_p50_s == pytest.approx(0.25, rel=0.02)
    assert summary.slo_violation_rate == pytest.approx(3 / 10)
    assert summarise(episode({}, latency=latency), context()).slo_violation_rate is None


def test_efficiency_is_compared_only_where_there_is_some():
    full, half = (
        summarise(episode({}), context()),
        summarise(episode({"energy_gpu_j": 800.0}), context()),
    )
    assert full.efficiency_over(half) == pytest.approx(2.0)
    idle = summarise(episode({"energy_gpu_j": 0.0}), context())
    with pytest.raises(ValueError, match="no efficiency"):
        full.efficiency_over(idle)


def test_requests_are_sums_and_final_states():
    summary = summarise(episode({"running": 9.0}, {"running": 4.0}), context())
    assert (summary.requests_arrived, summary.requests_finished) == (6, 4)
    assert (summary.requests_running, summary.requests_waiting) == (4, 1)


def test_the_prefix_caches_hit_rate_is_over_all_tokens_looked_up():
    some = {"prefix_cache_queries": 300.0, "prefix_cache_hits": 240.0}
    more = {"prefix_cache_queries": 100.0, "prefix_cache_hits": 0.0}
    assert summarise(episode(some, more), context()).prefix_cache_hit_rate == 0.6
    assert summarise(episode({}), context()).prefix_cache_hit_rate is None


def test_json_refuses_nan_and_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "bad.json", {"x": np.nan})
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "good.json", {"x": None})
    assert json.loads((tmp_path / "good.json").read_text()) == {"x": None}
