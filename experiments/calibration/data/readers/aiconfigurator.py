"""Kernel tables of AIConfigurator (``aiconfigurator/<any name>/*_perf.parquet``).

Latencies in milliseconds of single kernels as an engine runs them, one file per kind of kernel;
the column ``device`` says which GPU it was. Only shapes that a served model comes to are read, and
only what a step model can tell apart: no sliding windows, no quantised caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pyarrow.lib import ArrowInvalid

from envs.errors import WorkloadError
from envs.simulator.gpus import GPUSpec
from envs.simulator.kernel_times import expert_weights
from experiments.calibration.data.expert_routing import routing
from experiments.calibration.data.kernel_rows import (
    DecodeRows,
    ExpertRows,
    KernelTables,
    ProductRows,
    PromptRows,
    ReduceRows,
)

Rows = TypeVar("Rows")
FOLDER = "aiconfigurator"
PRODUCTS, EXPERTS = "gemm_perf", "moe_perf"
PROMPTS, DECODE = "context_attention_perf", "generation_attention_perf"
REDUCES = "custom_allreduce_perf"
PRECISIONS = {"bfloat16": "bf16", "fp8_block": "fp8_block", "fp8": "fp8"}
"""By name in the tables."""
UNGATED_TOP_K = 22
"""Models that route to 22 experts (Nemotron-H) have no gate in some versions of the collector."""
_MOST_ROWS = 6000
"""Rows of one kind that are read: more add time, not knowledge."""
_COLUMNS = {
    PRODUCTS: ("gemm_dtype", "m", "n", "k"),
    EXPERTS: (
        "moe_dtype", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts",
        "moe_tp_size", "moe_ep_size", "distribution",
    ),
    DECODE: (
        "batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim",
        "kv_cache_dtype",
    ),
    PROMPTS: (
        "batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "kv_cache_dtype",
    ),
    REDUCES: ("num_gpus", "message_size", "backend"),
}  # fmt: skip
_WINDOW = "window_size"


def find(folder: Path) -> list[Path]:
    """Returns the folders of kernel tables in a data folder."""
    return sorted({file.parent for file in folder.glob(f"{FOLDER}/*/*_perf.parquet")})


def read(folder: Path, gpus: Sequence[GPUSpec]) -> KernelTables | None:
    """Reads the kernel tables of one GPU.

    Args:
        folder: Folder with files ``*_perf.parquet``.
        gpus: GPU types to look for, by the name that NVML reports.

    Returns:
        The tables; ``None`` where they are of another GPU.

    Raises:
        WorkloadError: A file cannot be read or lacks a column; the message names it.
    """
    files = {name: folder / f"{name}.parquet" for name in _COLUMNS}
    files = {name: file for name, file in files.items() if file.is_file()}
    if not files:
        return None
    device = _device(next(iter(files.values())))
    gpu = next((gpu for gpu in gpus if gpu.device_name == device), None)
    if gpu is None:
        return None
    tables = {name: _table(file, _COLUMNS[name]) for name, file in files.items()}
    return KernelTables(
        gpu=gpu,
        products=_by_precision(tables.get(PRODUCTS), "gemm_dtype", _products),
        experts=_by_precision(tables.get(EXPERTS), "moe_dtype", _experts),
        decode=_decode(tables[DECODE]) if DECODE in tables else None,
        prompts=_prompts(tables[PROMPTS]) if PROMPTS in tables else None,
        reduces=_reduces(tables[REDUCES]) if REDUCES in tables else None,
        files=list(files.values()),
    )


def _device(file: Path) -> str:
    column = _table(file, ("device",), latency=False)["device"]
    return str(column.iloc[0]) if len(column) else ""


def _table(file: Path, columns: tuple[str, ...], *, latency: bool = True) -> pd.DataFrame:
    wanted = [*columns, "latency"] if latency else list(columns)
    try:
        known = pq.read_schema(file).names
        missing = [name for name in wanted if name not in known]
        if missing:
            raise WorkloadError(f"{file}: no column {', '.join(missing)}")
        wanted += [_WINDOW] if latency and _WINDOW in known else []
        table: pd.DataFrame = pq.read_table(file, columns=wanted).to_pandas()
    except (OSError, ArrowInvalid) as error:
        raise WorkloadError(f"{file}: cannot read it as Parquet: {error}") from error
    if latency:
        table = table[np.isfinite(table["latency"]) & (table["latency"] > 0.0)]
    return table


def _by_precision(
    table: pd.DataFrame | None, column: str, build: Callable[[pd.DataFrame, str], Rows]
) -> tuple[Rows, ...]:
    if table is None:
        return ()
    parts = ((table[table[column] == name], kind) for name, kind in PRECISIONS.items())
    return tuple(build(part, kind) for part, kind in parts if len(part))


def _products(table: pd.DataFrame, precision: str) -> ProductRows:
    """Products from the smallest shard to the largest step; smaller ones are no model's."""
    part = _thin(table[(table["n"] >= 512) & (table["k"] >= 512) & (table["m"] <= 16384)])
    return ProductRows(
        **_common(part, ["n", "k"]),
        precision=precision,
        tokens=_floats(part["m"]),
        width=_floats(part["n"]),
        depth=_floats(part["k"]),
    )


def _experts(table: pd.DataFrame, precision: str) -> ExpertRows:
    """Gated experts split over at most eight GPUs."""
    inside = (table["moe_tp_size"] <= 8) & (table["moe_ep_size"] <= 8)
    inside &= (table["num_tokens"] <= 16384) & (table["topk"] != UNGATED_TOP_K)
    part = _thin(table[inside])
    names = ("distribution", "num_tokens", "topk", "num_experts", "moe_ep_size")
    rows = zip(*(part[name].tolist() for name in names), strict=True)
    touched, routed = np.array([routing(*row) for row in rows]).reshape(-1, 2).T
    width = _floats(part["inter_size"]) / _floats(part["moe_tp_size"])
    return ExpertRows(
        **_common(part, ["hidden_size", "inter_size", "topk", "num_experts"]),
        precision=precision,
        tokens=_floats(part["num_tokens"]),
        weights=expert_weights(_floats(part["hidden_size"]), width),
        touched=touched,
        routed=routed,
    )


def _attention(table: pd.DataFrame) -> pd.DataFrame:
    """Full attention over a bf16 cache, with the heads of a shard."""
    inside = (table["kv_cache_dtype"] == "bfloat16") & table["head_dim"].isin([64, 128, 256])
    inside &= (table["num_heads"] >= 4) & (table["num_heads"] >= table["num_key_value_heads"])
    inside &= table["num_heads"] <= 16 * table["num_key_value_heads"]
    if _WINDOW in table:
        inside &= table[_WINDOW] == 0
    return table[inside]


def _decode(table: pd.DataFrame) -> DecodeRows:
    part = _attention(table)
    length = part["isl"] + part["step"]
    part = _thin(part[(length >= 128) & (length <= 32768) & (part["batch_size"] <= 512)])
    return DecodeRows(
        **_common(part, ["num_heads", "num_key_value_heads", "head_dim"]),
        sequences=_floats(part["batch_size"]),
        length=_floats(part["isl"] + part["step"]),
        heads=_floats(part["num_heads"]),
        kv_heads=_floats(part["num_key_value_heads"]),
        head_dim=_floats(part["head_dim"]),
    )


def _prompts(table: pd.DataFrame) -> PromptRows:
    part = _attention(table)
    part = _thin(part[(part["isl"] >= 64) & (part["batch_size"] * part["isl"] <= 16384)])
    return PromptRows(
        **_common(part, ["num_heads", "num_key_value_heads", "head_dim"]),
        prompts=_floats(part["batch_size"]),
        length=_floats(part["isl"]),
        heads=_floats(part["num_heads"]),
        head_dim=_floats(part["head_dim"]),
    )


def _reduces(table: pd.DataFrame) -> ReduceRows:
    """All-reduces inside CUDA graphs, of one token's activations to those of a full step."""
    size = table["message_size"]
    part = table[(table["backend"] == "vllm_graph") & (size >= 2**11) & (size <= 2**26)]
    return ReduceRows(
        **_common(part, ["num_gpus"]),
        ranks=_floats(part["num_gpus"]),
        message_bytes=_floats(part["message_size"]),
    )


def _thin(table: pd.DataFrame) -> pd.DataFrame:
    """Keeps every n-th row of a long table."""
    return table.iloc[:: -(-len(table) // _MOST_ROWS)] if len(table) else table


def _common(table: pd.DataFrame, columns: list[str]) -> dict[str, Any]:
    shape = table.groupby(columns, sort=True).ngroup().to_numpy(dtype=np.int64)
    return {"seconds": 1e-3 * _floats(table["latency"]), "shape": shape}


def _floats(column: pd.Series[Any]) -> np.ndarray:
    return column.to_numpy(dtype=float)
