"""``experiments.calibrate``: finds known coefficients again, and fits a profiled machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from envs import catalog
from envs.simulator.calibration import Calibration
from experiments import calibrate, profile
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.data.readers import mlenergy_v3, profile_records
from experiments.calibration.fitting.gpu_fit import fit_gpu
from experiments.calibration.fitting.least_squares import FitOptions, fit
from experiments.calibration.fitting.priors import power_priors, time_priors
from experiments.calibration.fitting.simulate import Simulation
from experiments.calibration.fitting.store import write

TRUTH = {
    "bandwidth_efficiency": 0.76,
    "flops_efficiency": 0.60,
    "expert_bandwidth_efficiency": 0.75,
    "step_s": 4e-3,
    "static_power_w": 118.0,
    "busy_power_w": 300.0,
}


def published_file(folder: Path) -> Path:
    """A file in the columns of ``mlenergy-v3``; its measured values are made up."""
    rows = [
        {
            "task": "gpqa", "model_id": model, "gpu_model": "H100", "num_gpus": gpus,
            "data_parallel": 1, "expert_parallel": 1, "avg_batch_size": float(batch),
            "output_throughput_tokens_per_sec": 1000.0 * batch, "avg_power_watts": 400.0 * gpus,
            "avg_output_len": 2000.0, "median_itl_ms": 20.0,
        }
        for model, gpus in (
            ("meta-llama/Llama-3.1-8B-Instruct", 1), ("meta-llama/Llama-3.1-70B-Instruct", 4),
            ("Qwen/Qwen3-32B", 2), ("Qwen/Qwen3-30B-A3B-Instruct-2507", 1), ("unheard/of-7B", 1),
        )
        for batch in (1, 4, 16, 64, 256)
    ]  # fmt: skip
    file = folder / "mlenergy-v3" / "llm_runs.csv"
    file.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


def as_measured(rows: list[Measurement], truth: Calibration) -> list[Measurement]:
    """Replaces measured values by what a machine with these coefficients would show."""
    found = Simulation(rows).run(truth)
    return [
        replace(
            m,
            itl_s=float(found.itl_s[i]),
            tpot_s=float(found.tpot_s[i]),
            throughput_tok_s=float(found.throughput_tok_s[i]),
            power_w=float(found.power_w[i]),
            apart="",
        )
        for i, m in enumerate(rows)
    ]


def test_known_coefficients_are_found_again_from_what_they_cause(tmp_path: Path) -> None:
    gpu = catalog.build("gpu", "h100_sxm")
    truth = replace(catalog.build("calibration", "h100_sxm"), **TRUTH)
    rows = as_measured(mlenergy_v3.read(published_file(tmp_path)).measurements, truth)
    trusting = FitOptions({"itl": 0.01, "tpot": 0.01, "power": 0.01}, outlier=0.5)
    priors = time_priors({}, {}) | power_priors(gpu)
    found = fit(rows, truth, priors, trusting)
    for key, value in TRUTH.items():
        if not key.endswith("power_w"):  # of powers only the sum is known
            assert getattr(found.calibration, key) == pytest.approx(value, rel=0.12), key
    again = Simulation(rows).run(found.calibration)
    assert again.power_w == pytest.approx([m.power_w for m in rows], rel=0.03)
    errors = [abs(t / (m.tpot_s or 0.0) - 1.0) for t, m in zip(again.tpot_s, rows, strict=True)]
    assert float(np.median(errors)) < 0.01


def test_a_few_wild_rows_hardly_move_the_fit(tmp_path: Path) -> None:
    gpu = catalog.build("gpu", "h100_sxm")
    truth = catalog.build("calibration", "h100_sxm")
    rows = as_measured(mlenergy_v3.read(published_file(tmp_path)).measurements, truth)
    wild = [replace(m, tpot_s=5.0 * (m.tpot_s or 0.0)) if i in (2, 11) else m
            for i, m in enumerate(rows)]  # fmt: skip
    clean, disturbed = (fit_gpu(gpu, part).calibration for part in (rows, wild))
    assert disturbed.bandwidth_efficiency == pytest.approx(clean.bandwidth_efficiency, rel=0.03)


def test_rows_without_a_specification_are_listed_not_dropped(tmp_path: Path) -> None:
    data = mlenergy_v3.read(published_file(tmp_path))
    assert len(data.measurements) == 20
    assert [s.model for s in data.skipped] == ["unheard/of-7B"] * 5
    assert {s.row for s in data.skipped} == set(range(22, 27))


def test_a_profile_of_ones_own_server_gives_a_calibration(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    server = ["gpu=h100_sxm", "model=llama31_8b", "server.tensor_parallel=1"]
    short = ["profile.tensor_parallel=[]", "profile.measure_s=20", "profile.settle_s=10"]
    outcome = command(profile.main, *server, *short)
    assert outcome.code == 0, outcome.err
    records = tmp_path / "out" / "profile.csv"
    own = f"profiles=[{{path: {records}, model: llama31_8b, prompt_tokens: 492}}]"
    outcome = command(calibrate.main, "gpu=h100_sxm", "data=none", own)
    assert outcome.code == 0, outcome.err
    fitted = yaml.safe_load((tmp_path / "out" / "h100_sxm.yaml").read_text())
    assert fitted["fitted_on"] == "36 rows of profile"
    assert fitted["fit_error"]["throughput"] < 1.0
    assert fitted["fit_error"]["power"] < 1.0
    assert "clock_exponent" in fitted["uncertainty"], "caps were swept, so the clock is fitted"
    assert "clock_exponent" not in fitted["ranges"]
    installed = catalog.build("calibration", "h100_sxm")
    for key in ("clock_power_floor_w", "clock_linear_fraction"):
        assert fitted[key] == pytest.approx(getattr(installed, key), rel=0.1), key
    assert fitted["step_s"] == pytest.approx(installed.step_s, rel=0.25)


def test_a_slower_machine_of_ones_own_gets_a_slower_calibration(tmp_path: Path) -> None:
    gpu, model = catalog.build("gpu", "h100_sxm"), catalog.build("model", "llama31_8b")
    rows = [
        {
            "power_cap_w": cap, "max_num_seqs": batch, "tensor_parallel": 1, "expert_parallel": 1,
            "data_parallel": 1, "throughput_tok_s": 1.0, "prompt_tok_s": 0.8, "power_w": 1.0,
            "running": batch, "context_tokens": 400.0,
        }
        for cap in (300.0, 500.0, 700.0)
        for batch in (1, 8, 32, 64)
    ]  # fmt: skip
    file = tmp_path / "profile.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    truth = replace(catalog.build("calibration", "h100_sxm"), step_s=6e-3, busy_power_w=320.0)
    measured = as_measured(profile_records.read(file, gpu, model, 300.0, 8).measurements, truth)
    found = fit_gpu(gpu, measured).calibration
    assert found.step_s == pytest.approx(6e-3, rel=0.2)
    again = Simulation(measured).run(found).power_w  # energies alone are hardly told apart
    assert again == pytest.approx([m.power_w for m in measured], rel=0.02)


def test_install_replaces_the_file_that_the_gpu_names(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "conf" / "calibration"
    conf.mkdir(parents=True)
    published_file(tmp_path / "data")
    installed = catalog.CONF_DIR / "calibration"
    before = {file: file.read_bytes() for file in installed.iterdir()}

    def elsewhere(calibration: Calibration, gpu: Any, folder: Path) -> Path:
        return write(calibration, gpu, conf if folder == installed else folder)

    monkeypatch.setattr(calibrate, "write", elsewhere)
    outcome = command(calibrate.main, "gpu=h100_sxm", f"data={tmp_path / 'data'}", "install=true")
    assert outcome.code == 0, outcome.err
    assert (conf / "h100_sxm.yaml").read_text() == (tmp_path / "out/h100_sxm.yaml").read_text()
    assert {file: file.read_bytes() for file in installed.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data=/no/such/folder"], ("data:", "PALS_DATA")),
        (["data=none"], ("data:", "no row to fit")),
    ],
)
def test_a_fit_to_nothing_is_one_clear_message(
    command: Callable[..., Any], arguments: list[str], words: tuple[str, ...]
) -> None:
    outcome = command(calibrate.main, "gpu=h100_sxm", *arguments)
    assert outcome.code == 1
    assert all(word in outcome.err for word in words)
    assert "Traceback" not in outcome.err
