"""ML.ENERGY benchmark v3 (``mlenergy-v3/llm_runs.csv``): vLLM 0.11 on H100 and B200."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.simulator.parallelism import Parallelism
from experiments.calibration.data.csv_table import (
    RowError,
    count,
    number,
    optional_number,
)
from experiments.calibration.data.host_bound import mark_host_bound
from experiments.calibration.data.measurement import MeasuredData, Measurement, digest
from experiments.calibration.data.readers.frame import read_table
from experiments.calibration.data.specifications import find_gpu, find_model
from experiments.calibration.data.steady_state import steady_steps
from experiments.calibration.data.tasks import TASKS, VISION_TASKS

DATASET = "mlenergy-v3"
GPUS = {"A100": "a100_sxm4_80gb", "H100": "h100_sxm", "H200": "h200_sxm", "B200": "b200"}
GPUS_PER_NODE = 8
LOCKSTEP = "replicas in lockstep"
"""Reason to keep rows apart: attention in replicas, experts over all of them. These runs are
three to six times slower than the same model in bf16 with tensor parallelism."""
_COLUMNS = (
    "task", "model_id", "gpu_model", "num_gpus", "avg_batch_size",
    "output_throughput_tokens_per_sec", "avg_power_watts", "avg_output_len", "median_itl_ms",
)  # fmt: skip


def read(file: Path) -> MeasuredData:
    """Reads the file; rows that cannot be used are listed with the reason.

    Raises:
        WorkloadError: The file cannot be read or lacks a column.
    """
    data = read_table(
        file, dataset=DATASET, columns=_COLUMNS, parse_row=parse_row, model_column="model_id"
    )
    data.measurements = mark_host_bound(data.measurements)
    return data


def parse_row(row: dict[str, Any]) -> Measurement:
    """Returns a row as a measurement.

    Raises:
        RowError: The row cannot be compared with the simulator.
    """
    task = str(row.get("task"))
    if task in VISION_TASKS:
        raise RowError(f"task {task!r}: image and video encoders are not modelled")
    if task not in TASKS:
        raise RowError(f"task {task!r}: its request lengths are not known")
    model = find_model(row.get("model_id"))
    gpu_name = str(row.get("gpu_model"))
    if gpu_name not in GPUS:
        raise RowError(f"no specification of the GPU {gpu_name!r} (conf/gpu)")
    gpu = find_gpu(GPUS[gpu_name])
    gpus, replicas = count(row, "num_gpus"), count(row, "data_parallel")
    if gpus % replicas:
        raise RowError(f"{gpus} GPUs in {replicas} replicas")
    experts = gpus if model.experts and count(row, "expert_parallel") > 1 else 1
    parallelism = Parallelism(gpus // replicas, experts, replicas, GPUS_PER_NODE)
    batch = number(row, "avg_batch_size")
    output = number(row, "avg_output_len")
    throughput = optional_number(row, "output_throughput_tokens_per_sec")
    itl_ms = optional_number(row, "median_itl_ms")
    steps = steady_steps(batch, output, TASKS[task], replicas)
    return Measurement(
        dataset=DATASET,
        gpu=gpu,
        model=model,
        model_id=str(row["model_id"]),
        run=f"{row['model_id']} {task} {gpus}x{gpu_name}",
        parallelism=parallelism,
        batch=batch,
        counted_tokens=1.0,
        steps=tuple(steps),
        cap_w=gpu.power_cap_max_w,
        itl_s=None if itl_ms is None else itl_ms / 1e3,
        tpot_s=None if throughput is None else batch / throughput,
        throughput_tok_s=throughput,
        power_w=optional_number(row, "avg_power_watts"),
        context_per_seq=steps[0].context_tokens / steps[0].decode_seqs,
        digest=digest(row),
        apart=LOCKSTEP if replicas > 1 else "",
    )
