"""``experiments.validate``: its files, its splits, and the accuracy targets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from envs.errors import ConfigurationError
from experiments import physics, validate
from experiments.calibration.config import data_folders
from experiments.calibration.data.readers import read_folder
from experiments.calibration.fitting.pipeline import fit_rows
from experiments.calibration.fitting.simulate import QUANTITIES
from experiments.calibration.fitting.uncertainty import FLOOR_FRACTION
from experiments.calibration.validation.ablation_study import study
from experiments.calibration.validation.accuracy_targets import accuracy_targets
from experiments.calibration.validation.cross_validation import (
    ALL_ROWS,
    APART,
    FAMILY_OUT,
    FITTED,
    HELD_OUT,
)
from experiments.calibration.validation.training_caps import study_training
from experiments.calibration.validation.validate import validate as evaluate_folder
from experiments.reporting.docs_page import fill

OWN = Path(__file__).resolve().parents[2] / "docs" / "measurements" / "h100"
KEYS = {"dataset", "gpu", "split", "quantity", "n", "median_ape", "mean_ape", "spearman"}
MISSED = {
    "H100, model left out: inter-token latency": 6.8,
    "H100, model left out: TPOT": 5.5,
    "H100, model left out: throughput": 5.6,
    "H100, model left out: power": 7.6,
    "H100, model left out: J/token": 8,
    "H100, MoE family left out: inter-token latency": 9.6,
    "H100, MoE family left out: TPOT": 10.1,
    "H100, MoE family left out: throughput": 11,
    "B200, not host-bound, model left out: inter-token latency": 12.9,
    "B200, not host-bound, model left out: TPOT": 11.7,
    "B200, not host-bound, model left out: throughput": 11.8,
    "B200, not host-bound, model left out: J/token": 12.2,
    "A100-40GB, batch 1-64, model left out: TPOT": 5.9,
    "A100-40GB, batch 1-64, model left out: throughput": 6,
    "A100-80GB, MoE, decode, model left out: power": 41.4,
    "A100-80GB, MoE, decode, model left out: power, with its sign": 41.4,
    "A100-80GB, with prompts, model left out: power": 12.5,
    "A100-80GB, with prompts, model left out: power, with its sign": 12.5,
    "A100-80GB, whole batches, model left out: power": 8.4,
    "A100-80GB, whole batches, model left out: power, with its sign": 8.4,
    "A100-80GB, model left out: time of a step": 10.3,
    "TTFT at light load, MoE, not fitted to": 20.8,
    "kernels, shapes left out, h100_sxm: matrix products": 11,
    "kernels, shapes left out, b200: routed experts": 13.1,
    "kernels, shapes left out, a100_sxm4_80gb: routed experts": 14.8,
    "kernels, shapes left out, b200: attention": 9.5,
    "kernels, shapes left out, a100_sxm4_80gb: attention": 11,
    "RTX PRO 6000, unseen interior caps that do not bind: power": 1.8,
    "loss at 300 W, Qwen3-Coder-Next-AWQ 1 requests, lowest cap unseen (points)": 5.1,
    "H100, power in windows of 0.25 s, a stream of arrivals: RMSE over the repeats' noise": 2.4,
}
"""Targets that are missed (docs/validation.md says why), with the error not to exceed."""


def part_of(data_dir: Path, folder: Path, name: str, keep: Callable[[pd.DataFrame], Any]) -> Path:
    """Copies some rows of a data file into a folder of its own."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(data_dir / name, dtype=str)
    table[keep(table)].to_csv(file, index=False)
    return file


@pytest.mark.long
def test_the_accuracy_targets_are_reached_or_known_to_be_missed(data_dir: Path) -> None:
    found = evaluate_folder(data_dir, further=[OWN], held_out=True, processes=2)
    results = accuracy_targets(found)
    assert len(results) > 35
    for target in results:
        if target.limit is not None:
            assert abs(target.reached) <= MISSED.get(target.what, target.limit), target
    assert MISSED.keys() <= {target.what for target in results}


@pytest.mark.long
def test_without_coverage_moe_latency_does_not_grow_as_measured(data_dir: Path) -> None:
    data, _ = read_folder(data_dir)
    h100 = next(m.gpu for m in data.measurements if m.gpu.name == "h100_sxm")
    records = {r["without"]: r for r in study(h100, fit_rows(data.measurements, h100), 2)}
    whole = records["nothing"]
    ablated = records["coverage (a step reads only top-k experts)"]
    assert whole["growth_family_out"] < 7.0
    assert ablated["growth_bias_family_out"] < -12.0
    assert ablated["tpot_family_out"] > 1.7 * whole["tpot_family_out"]
    for part in ("communication", "uneven popularity (every expert as likely)"):
        assert records[part]["tpot_family_out"] > 1.15 * whole["tpot_family_out"]


def test_known_and_new_rows_are_kept_apart_and_none_is_dropped(
    command: Callable[..., Any], data_dir: Path, tmp_path: Path
) -> None:
    own = tmp_path / "data"
    name = "mlenergy-v3/llm_runs.csv"
    file = part_of(
        data_dir, own, name,
        lambda t: (t.gpu_model == "H100") & t.task.isin(["gpqa", "image-chat"]),
    )  # fmt: skip
    table = pd.read_csv(file, dtype=str)
    fresh = table[table.task == "gpqa"].head(6).copy()
    fresh["avg_batch_size"] = fresh["avg_batch_size"].astype(float) * 1.01  # not a fitted row
    pd.concat([table, fresh]).to_csv(file, index=False)
    outcome = command(validate.main, f"data={own}", "held_out=false")
    assert outcome.code == 0, outcome.err
    out = tmp_path / "out"
    records = json.loads((out / "validation.json").read_text())
    assert all(set(record) == KEYS for record in records)
    assert {record["quantity"] for record in records} == set(QUANTITIES)
    assert {record["dataset"] for record in records} == {"all", "mlenergy-v3"}
    sizes = {r["split"]: r["n"] for r in records if r["quantity"] == "tpot"}
    assert sizes[HELD_OUT] == 6
    assert sizes[FITTED] > 30
    skipped = pd.read_csv(out / "skipped.csv")
    assert (skipped.reason.str.contains("image-chat")).sum() == (table.task == "image-chat").sum()
    rows = pd.read_csv(out / "rows.csv")
    assert len(rows[rows.split.isin([FITTED, HELD_OUT, APART])]) + len(skipped) == len(table) + 6
    for saved_plot in ("measured_simulated_fitted.png", "error_by_batch.png"):
        assert (out / saved_plot).read_bytes()[:4] == b"\x89PNG"


def test_every_cap_left_out_is_simulated_by_a_fit_without_it(
    data_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(data_dir / "mmbt-rtxpro6000", tmp_path / "mmbt-rtxpro6000")
    found = evaluate_folder(tmp_path, held_out=True, processes=1)
    held = [j for j in found.evaluated if j.split == HELD_OUT]
    fitted = [j for j in found.evaluated if j.split == FITTED]
    assert len(held) == len(fitted) == 20
    differing = [
        a.simulated["throughput"] != b.simulated["throughput"]
        for a, b in zip(
            sorted(held, key=lambda j: j.measurement.digest),
            sorted(fitted, key=lambda j: j.measurement.digest),
            strict=True,
        )
    ]
    assert all(differing)
    assert not [j for j in found.evaluated if j.split in (FAMILY_OUT, ALL_ROWS)]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.drop(columns="avg_power_watts"), "avg_power_watts"),
        (lambda t: t.rename(columns={"task": "job"}), "task"),
    ],
)
def test_a_file_without_a_column_names_it(
    command: Callable[..., Any],
    data_dir: Path,
    tmp_path: Path,
    change: Callable[[pd.DataFrame], pd.DataFrame],
    word: str,
) -> None:
    file = part_of(data_dir, tmp_path / "d", "mlenergy-v3/llm_runs.csv", lambda t: t.index < 5)
    change(pd.read_csv(file, dtype=str)).to_csv(file, index=False)
    outcome = command(validate.main, f"data={tmp_path / 'd'}", "held_out=false")
    assert outcome.code == 1
    assert word in outcome.err
    assert "llm_runs.csv" in outcome.err


@pytest.fixture
def page_of_blocks(tmp_path: Path) -> Path:
    names = ("coefficients", "targets", "errors", "caps", "host", "skipped", "training",
             "behaviour", "forests", "series", "kernel_power", "kernels",
             "first_tokens")  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- begin {n} -->\n<!-- end {n} -->\n" for n in names))
    return page


def test_one_command_makes_a_pages_tables_and_plots(
    command: Callable[..., Any], data_dir: Path, tmp_path: Path, page_of_blocks: Path
) -> None:
    shutil.copytree(data_dir / "mmbt-rtxpro6000", tmp_path / "data" / "mmbt-rtxpro6000")
    outcome = command(
        physics.main, f"data={tmp_path / 'data'}", f"page={page_of_blocks}", "ablations=false",
        f"images={tmp_path / 'images'}", "forest_models=[]", "processes=1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    text = page_of_blocks.read_text()
    for words in (
        "| `bandwidth_efficiency` |",
        "unseen interior caps: tok/s",
        "J/token at batch 1",
    ):
        assert words in text
    drawn = {file.name for file in (tmp_path / "images").iterdir()}
    assert drawn == {"physics_power_caps.png", "physics_behaviour.png"}


@pytest.mark.long
def test_gpus_trained_under_caps_bound_the_response_to_the_clock(data_dir: Path) -> None:
    found = study_training(data_dir / "zeus-nsdi23")
    assert len(found) == 4
    for response in found:
        assert FLOOR_FRACTION[0] - 0.02 < response.floor_fraction < FLOOR_FRACTION[1]
        assert response.time_error < 3.0
        assert response.power_error < 4.0


def test_the_data_folder_has_to_be_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PALS_DATA", raising=False)
    with pytest.raises(ConfigurationError, match=r"data: not given.*PALS_DATA"):
        data_folders(None)
    monkeypatch.setenv("PALS_DATA", str(tmp_path))
    assert data_folders(None) == [tmp_path]
    assert data_folders(str(tmp_path / "..")) == [tmp_path / ".."]


def test_a_page_is_filled_block_by_block(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin one -->\nold\n<!-- end one -->\nb\n")
    fill(page, {"one": "x \\1\ny"})
    assert page.read_text() == "a\n<!-- begin one -->\nx \\1\ny\n<!-- end one -->\nb\n"
    with pytest.raises(ConfigurationError, match="block 'two'"):
        fill(page, {"two": ""})
