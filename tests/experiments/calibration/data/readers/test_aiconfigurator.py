"""Kernel tables are read into shapes; what no server runs is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from envs import catalog
from envs.errors import WorkloadError
from experiments.calibration.data.expert_routing import routing
from experiments.calibration.data.readers import aiconfigurator

H100 = "NVIDIA H100 80GB HBM3"
GEMM = {"device": H100, "gemm_dtype": "bfloat16", "m": 16, "n": 4096, "k": 2048, "latency": 0.01}
MOE = {
    "device": H100, "moe_dtype": "bfloat16", "num_tokens": 4, "hidden_size": 2048,
    "inter_size": 768, "topk": 8, "num_experts": 128, "moe_tp_size": 2, "moe_ep_size": 1,
    "distribution": "balanced", "latency": 0.05,
}  # fmt: skip


def written(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")
    return folder


def gpus() -> list[Any]:
    return [catalog.build("gpu", name) for name in ("h100_sxm", "b200")]


def test_milliseconds_and_shapes_are_read(tmp_path: Path) -> None:
    folder = written(tmp_path, "gemm_perf", GEMM, {**GEMM, "gemm_dtype": "fp8", "m": 32})
    written(folder, "moe_perf", MOE)
    tables = aiconfigurator.read(folder, gpus())
    assert tables is not None
    assert tables.gpu.name == "h100_sxm"
    assert [rows.precision for rows in tables.products] == ["bf16", "fp8"]
    product = tables.products[0]
    assert (product.tokens[0], product.width[0], product.depth[0]) == (16.0, 4096.0, 2048.0)
    assert product.seconds[0] == pytest.approx(1e-5)
    experts = tables.experts[0]
    assert experts.weights[0] == 3 * 2048 * 768 / 2
    assert (experts.touched[0], experts.routed[0]) == (32.0, 32.0)


def test_shapes_of_no_server_and_failed_measurements_are_left_out(tmp_path: Path) -> None:
    small, failed = {**GEMM, "n": 64}, {**GEMM, "latency": float("nan")}
    folder = written(tmp_path, "gemm_perf", GEMM, small, failed)
    written(folder, "moe_perf", MOE, {**MOE, "topk": 22}, {**MOE, "moe_ep_size": 64})
    tables = aiconfigurator.read(folder, gpus())
    assert tables is not None
    assert len(tables.products[0]) == 1
    assert len(tables.experts[0]) == 1


def test_tables_of_another_gpu_are_nobodys(tmp_path: Path) -> None:
    folder = written(tmp_path, "gemm_perf", {**GEMM, "device": "NVIDIA L4"})
    assert aiconfigurator.read(folder, gpus()) is None


def test_a_missing_column_and_a_broken_file_are_named(tmp_path: Path) -> None:
    lacking = {key: value for key, value in GEMM.items() if key != "k"}
    folder = written(tmp_path / "a", "gemm_perf", lacking)
    with pytest.raises(WorkloadError, match=r"gemm_perf\.parquet: no column k"):
        aiconfigurator.read(folder, gpus())
    (tmp_path / "gemm_perf.parquet").write_bytes(b"no table")
    with pytest.raises(WorkloadError, match="cannot read it as Parquet"):
        aiconfigurator.read(tmp_path, gpus())


def test_routings_keep_every_visit_and_uneven_ones_touch_fewer_experts() -> None:
    even, _ = routing("balanced", 16, 8, 128, 1)
    uneven, visits = routing("power_law_1.2", 16, 8, 128, 1)
    assert even == 128.0
    assert 40.0 < uneven < 90.0
    assert visits == 128.0
    fullest, most = routing("power_law_1.2", 64, 8, 128, 4)
    assert fullest <= 32.0
    assert most > 64 * 8 / 4
    with pytest.raises(ValueError, match="zipf"):
        routing("zipf", 1, 1, 8, 1)
