"""LLM-Inference-Bench of Argonne (``argonne/*.csv``): one batch from first prompt to last token.

Prompts and outputs have the same length; the throughput column counts both; ``avg_power`` is
in mW. A batch whose tokens exceed the KV cache runs in waves and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from envs.errors import InfeasibleModelError
from envs.simulator.memory import kv_cache_tokens
from envs.simulator.parallelism import Parallelism
from experiments.calibration.data.csv_table import (
    RowError,
    count,
    number,
    optional_number,
)
from experiments.calibration.data.measurement import MeasuredData, Measurement, digest
from experiments.calibration.data.readers.frame import read_table
from experiments.calibration.data.specifications import find_gpu, find_model
from experiments.calibration.data.steady_state import batch_steps

DATASET = "argonne"
GPUS = {"Nvidia A100 GPU": "a100_sxm4_40gb", "Nvidia H100 GPU": "h100_sxm"}
FRAMEWORKS = {"vLLM", "TensorRT-LLM"}
PREFILL_BUDGET = 4096.0
"""Prompt tokens per step: vLLM of 2024 computes whole prompts up to the context length."""
_CACHE_SLACK = 1.05
_COLUMNS = (
    "Hardware", "Num of Hardware", "Framework", "Model", "Input Output Length", "Batch Size",
    "Latency",
)  # fmt: skip


def read(file: Path) -> MeasuredData:
    """Reads the file; rows that cannot be used are listed with the reason.

    Raises:
        WorkloadError: The file cannot be read or lacks a column.
    """
    return read_table(
        file, dataset=DATASET, columns=_COLUMNS, parse_row=parse_row, model_column="Model"
    )


def join_power(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Joins runs that both of Argonne's files hold, and repeated runs, into one measurement.

    Times of repeated runs are averaged.
    """
    joined: dict[object, Measurement] = {}
    repeats: dict[object, int] = {}
    for index, m in enumerate(measurements):
        shape = (m.run, m.batch) if m.dataset.startswith(DATASET) else index
        known = joined.get(shape)
        if known is None:
            joined[shape] = m
            repeats[shape] = 1
            continue
        if known.digest == m.digest:
            continue
        count_ = repeats[shape] = repeats[shape] + 1
        joined[shape] = replace(
            known,
            tpot_s=_mean(known.tpot_s, m.tpot_s, count_),
            throughput_tok_s=_mean(known.throughput_tok_s, m.throughput_tok_s, count_),
            power_w=m.power_w if known.power_w is None else known.power_w,
        )
    return list(joined.values())


def _mean(known: float | None, new: float | None, count_: int) -> float | None:
    if known is None or new is None:
        return known if new is None else new
    return known + (new - known) / count_


def _apart(gpu: str, framework: str) -> str:
    if framework != "vLLM":
        return "another engine"
    return "" if gpu == "a100_sxm4_40gb" else "vLLM of 2024"


def parse_row(row: dict[str, Any]) -> Measurement:
    """Returns a row as a measurement.

    Raises:
        RowError: The row cannot be compared with the simulator.
    """
    framework = str(row.get("Framework"))
    if framework not in FRAMEWORKS:
        raise RowError(f"engine {framework!r} does not batch as the simulator does")
    hardware = str(row.get("Hardware"))
    if hardware not in GPUS:
        raise RowError(f"no specification of the GPU {hardware!r} (conf/gpu)")
    model = find_model(row.get("Model"))
    gpu = find_gpu(GPUS[hardware])
    gpus = count(row, "Num of Hardware")
    length = number(row, "Input Output Length")
    batch = number(row, "Batch Size")
    parallelism = Parallelism(tensor=gpus, gpus_per_node=4)
    try:
        capacity = kv_cache_tokens(gpu, model, parallelism)
    except InfeasibleModelError as error:
        raise RowError("the weights do not fit") from error
    if batch * 2.0 * length * _CACHE_SLACK > capacity:
        raise RowError(f"{batch:g} x {2 * length:g} tokens exceed the KV cache: runs in waves")
    power_mw = optional_number(row, "avg_power")
    latency = number(row, "Latency")
    throughput = optional_number(row, "Throughput")
    return Measurement(
        dataset=DATASET if framework == "vLLM" else f"{DATASET}-{framework.lower()}",
        gpu=gpu,
        model=model,
        model_id=str(row["Model"]),
        run=f"{row['Model']} {framework} {length:g} {gpus}x{hardware}",
        parallelism=parallelism,
        batch=batch,
        counted_tokens=2.0,
        steps=tuple(batch_steps(batch, length, length, PREFILL_BUDGET)),
        cap_w=gpu.power_cap_max_w,
        tpot_s=latency / length,
        throughput_tok_s=throughput if throughput is not None else 2.0 * batch * length / latency,
        power_w=None if power_mw is None else power_mw / 1e3 * gpus,
        context_per_seq=1.5 * length,
        digest=digest({k: v for k, v in row.items() if k in _COLUMNS}),
        apart=_apart(gpu.name, framework),
    )
