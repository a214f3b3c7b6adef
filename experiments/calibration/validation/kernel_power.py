"""What single kernels draw: power per byte and per FLOP, from AIConfigurator's tables.

The tables of H200 and B200 give the power of one kernel in a loop (``aiconfigurator/<gpu>``). Its
readings lag: some are of the kernel before, some near idle. These are screened out by their
neighbours, and what is left is split into a power that a busy GPU draws and power per traffic and
per arithmetic. No fit uses it; the priors of power lie where it says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from envs.simulator.models import WEIGHT_BYTES
from experiments.reporting.markdown import markdown_table

Floats = NDArray[np.float64]
GPUS = {"h200_sxm": 4.8, "b200_sxm": 8.0}
"""Folders, with the bandwidth of the GPU in TB/s."""
_NEIGHBOURS = 5
_JUMP = 1.5
_LEAST_MS = 0.04
"""Shorter kernels leave gaps in which the GPU idles."""
_NEAR_IDLE = 1.3
_NEAR_LIMIT = 0.95
_START = (200.0, 40.0, 0.4)


@dataclass(frozen=True)
class KernelPower:
    """What kernels of one kind draw above idle.

    Attributes:
        gpu: GPU type.
        kind: Kind of kernel.
        rows: Rows that were used.
        dropped: Rows that were screened out.
        busy_w: Watts of a busy GPU that moves and computes nothing.
        w_per_tb_s: Watts per TB/s of memory traffic.
        w_per_tflop_s: Watts per TFLOP/s.
        error: Median relative error of the power.
    """

    gpu: str
    kind: str
    rows: int
    dropped: int
    busy_w: float
    w_per_tb_s: float
    w_per_tflop_s: float
    error: float


def _gemm(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    table = table[table.gemm_dtype.astype(str) == "bfloat16"].copy()
    m, n, k = (table[name].to_numpy(dtype=float) for name in "mnk")
    table["bytes"] = WEIGHT_BYTES["bf16"] * (m * k + n * k + m * n)
    table["flop"] = 2.0 * m * n * k
    return table, ["n", "k", "m"]


def _experts(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    return _routed(table, "bfloat16", WEIGHT_BYTES["bf16"])


def _fp8_experts(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    return _routed(table, "fp8_block", WEIGHT_BYTES["fp8_block"])


def _routed(
    table: pd.DataFrame, stored: str, weight_bytes: float
) -> tuple[pd.DataFrame, list[str]]:
    table = table[table.moe_dtype.astype(str) == stored]
    table = table[table.distribution.astype(str) == "balanced"].copy()
    tokens = table.num_tokens.to_numpy(dtype=float)
    experts = table.num_experts / table.moe_ep_size
    visited = 1.0 - (1.0 - table.topk / table.num_experts) ** tokens
    weights = 3.0 * table.hidden_size * table.inter_size / table.moe_tp_size
    table["bytes"] = weight_bytes * (experts * visited * weights)
    table["flop"] = 2.0 * tokens * table.topk / table.moe_ep_size * weights
    shape = ["hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"]
    return table, [*shape, "num_tokens"]


def _decode_attention(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    table = table[(table.window_size == 0) & (table.kv_cache_dtype.astype(str) == "bfloat16")]
    table = table.copy()
    tokens = table.batch_size.to_numpy(dtype=float) * table.step
    table["bytes"] = 4.0 * tokens * table.num_key_value_heads * table.head_dim
    table["flop"] = 4.0 * tokens * table.num_heads * table.head_dim
    return table, ["num_heads", "num_key_value_heads", "head_dim", "batch_size", "step"]


KINDS: dict[str, tuple[str, Callable[[pd.DataFrame], tuple[pd.DataFrame, list[str]]]]] = {
    "dense products": ("gemm_perf", _gemm),
    "routed experts, bf16": ("moe_perf", _experts),
    "routed experts, FP8": ("moe_perf", _fp8_experts),
    "decode attention": ("generation_attention_perf", _decode_attention),
}


def study_kernels(folder: Path) -> list[KernelPower]:
    """Returns what every kind of kernel draws; empty where the tables are not there."""
    found = []
    for gpu, bandwidth in GPUS.items():
        for kind, (name, prepare) in KINDS.items():
            file = folder / gpu / f"{name}.parquet"
            if file.is_file():
                found.append(_study(gpu, kind, *prepare(pd.read_parquet(file)), bandwidth))
    return found


def _study(
    gpu: str, kind: str, table: pd.DataFrame, order: Sequence[str], bandwidth: float
) -> KernelPower:
    idle_w, limit_w = float(table.power.min()), float(table.power_limit.max())
    table = table.sort_values(list(order))
    near = table.groupby(list(order[:-1])).power.transform(
        lambda power: power.rolling(_NEIGHBOURS, center=True, min_periods=2).median()
    )
    ratio = table.power / near
    steady = (ratio < _JUMP) & (ratio > 1.0 / _JUMP)
    traffic = table.bytes / table.latency / 1e9
    inside = (table.latency > _LEAST_MS) & (traffic < bandwidth)
    free = (table.power > _NEAR_IDLE * idle_w) & (table.power < _NEAR_LIMIT * limit_w)
    used = table[steady & inside & free]
    parts = np.column_stack(
        [
            np.ones(len(used)),
            used.bytes / used.latency / 1e9,
            used.flop / used.latency / 1e9,
        ]
    )
    above_w = used.power.to_numpy(dtype=float) - idle_w

    def errors(x: Floats) -> Floats:
        logs: Floats = np.log(parts @ np.abs(x) / above_w)
        return logs

    found = np.abs(least_squares(errors, _START, loss="soft_l1", f_scale=0.1, x_scale=_START).x)
    error = np.abs((idle_w + parts @ found) / (idle_w + above_w) - 1.0)
    return KernelPower(
        gpu=gpu,
        kind=kind,
        rows=len(used),
        dropped=int((inside & ~(steady & free)).sum()),
        busy_w=float(found[0]),
        w_per_tb_s=float(found[1]),
        w_per_tflop_s=float(found[2]),
        error=100.0 * float(np.median(error)),
    )


def kernel_power_table(found: Sequence[KernelPower]) -> str:
    """Returns the study as a Markdown table."""
    head = [
        "GPU", "kernel", "rows", "screened out", "busy", "per TB/s", "per TFLOP/s",
        "median error",
    ]  # fmt: skip
    rows = [
        [
            k.gpu,
            k.kind,
            str(k.rows),
            str(k.dropped),
            f"{k.busy_w:.0f} W",
            f"{k.w_per_tb_s:.0f} W",
            f"{k.w_per_tflop_s:.2f} W",
            f"{k.error:.0f} %",
        ]
        for k in found
    ]
    return markdown_table(head, rows)
