"""Sources of the A100-80GB's power: what each row says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.calibration.data.readers import power_series, powertrace, splitwise

AGGREGATES = """\
run,gpu,model,tp,prefill,running_bin,n_power,mean_batch,power_w_per_gpu,sm_clock_mhz,\
prompt_tok_s,iter_s,iteration_ms,kv_tokens
one,A100-SXM4-80GB,Qwen3-8B,1,0,0,48,,83.2,1410,0,0,,0
one,A100-SXM4-80GB,Qwen3-8B,1,0,5-8,51,6.6,301.2,1410,0,79.61,12.56,2743
one,A100-SXM4-80GB,Gemma-4-26B-A4B,2,1,5-8,31,6.87,246.2,1410,2700,80.0,12.5,
two,H100-SXM5-80GB,Qwen3-8B,1,0,5-8,9,6.25,390.0,1830,0,128.3,7.79,2663
two,H100-SXM5-80GB,Qwen3-8B,1,0_regression_1s,5-8,121,6.25,403.4,1830,,,7.793,2789
q8_a100_agentic,A100-SXM4-80GB,Qwen3-8B,1,1,3-4,27,4.02,482.6,1389,4436,6.3,158.7,36477
"""
SERIES = """\
run,kind,t_rel_s,power_w_per_gpu,power_max_gpu_w,sm_clock_mean_mhz,sm_clock_min_mhz,\
gpus_sw_power_cap,note
q8_a100_agentic,prefill_stretch,-0.06,284,284,1410,1410,,long
q8_a100_agentic,prefill_stretch,0.19,500,500,1395,1395,,long
q8_a100_agentic,prefill_stretch,0.44,510,510,1380,1380,,long
other,idle_to_busy,0.1,100,100,1410,1410,,x
"""
BATCHES = """\
model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,prompt_time,\
token_time,e2e_time,tensor_parallel
llama2-70b,a100-80gb,512,1,128,1.0,0.736,196.0,54.8,7168,2
llama2-70b,a100-80gb,512,1,128,1.0,0.736,197.0,54.9,7170,2
llama2-70b,a100-80gb,8192,1,128,1.0,0.18,2990,57.3,10303,2
llama2-70b,a100-80gb,512,1,256,0,0,195.0,60.0,15287,2
llama2-70b,h100-80gb-pcap,512,1,128,1.0,0.5,100.0,40.0,6000,2
bloom-176b,a100-80gb,512,1,128,0.9,0.63,173.0,48.8,6373,8
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "table.csv"
    file.write_text(text)
    return file


def test_rows_by_number_running_are_measurements_on_a_500_w_board(tmp_path: Path) -> None:
    data = powertrace.read(written(tmp_path, AGGREGATES))
    decode, mixed, plain, smoothed = data.measurements
    assert (decode.gpu.name, decode.cap_w) == ("a100_sxm4_80gb_500w", 500.0)
    assert decode.power_w == 301.2
    assert decode.tpot_s == pytest.approx(1.0 / 79.61)
    assert [step.prefill_tokens for step in decode.steps] == [0.0]
    assert mixed.power_w == 2 * 246.2
    computed = sum(step.weight * step.prefill_tokens for step in mixed.steps)
    assert computed == pytest.approx(2700 / 80.0), "prompt tokens of an iteration"
    assert [i.power_w for i in data.idle] == [83.2]
    assert plain.power_w is None, "the other row took the sensor's mean of 1 s apart"
    assert smoothed.power_w == 403.4
    assert smoothed.clock_limit == pytest.approx(1830 / 1980)
    assert smoothed.weights["power"] > plain.weights["power"]
    assert len(data.skipped) == 1
    assert "long prompt ends" in data.skipped[0].reason


def test_a_stretch_of_long_prompts_tells_power_and_clock_at_the_limit(tmp_path: Path) -> None:
    data = power_series.read(written(tmp_path, SERIES))
    (stretch,) = data.measurements
    assert stretch.power_w == 505.0
    assert stretch.clock_fraction == pytest.approx(1387.5 / 1410)
    assert stretch.tpot_s is None
    (load,) = data.timed
    assert len(load.time_s) == 3
    assert load.inferred
    assert load.shown
    assert "other" in data.skipped[0].reason


def test_only_what_splitwise_measured_on_an_a100_is_used(tmp_path: Path) -> None:
    data = splitwise.read(written(tmp_path, BATCHES))
    (row,) = data.measurements
    assert row.power_w == pytest.approx(2 * 0.736 * 400.0)
    assert row.host_bound
    assert row.weights["tpot"] == 0.0
    assert row.tpot_s == pytest.approx((0.196 + 127 * 0.0548) / 128, rel=1e-2)
    reasons = " | ".join(item.reason for item in data.skipped)
    for part in (
        "computed, not measured",
        "misses the prompt",
        "average_power",
        "no specification",
    ):
        assert part in reasons
