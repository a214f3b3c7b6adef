"""ML.ENERGY leaderboard v2 (``mlenergy-v2/llm_runs.csv``): vLLM of 2024 on A100 and H100.

These servers were host-bound: the data show the shape of a curve, not its level, so all rows
are kept apart.
"""

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
from experiments.calibration.data.measurement import MeasuredData, Measurement, digest
from experiments.calibration.data.readers.frame import read_table
from experiments.calibration.data.specifications import find_gpu, find_model
from experiments.calibration.data.steady_state import steady_steps
from experiments.calibration.data.tasks import TASKS

DATASET = "mlenergy-v2"
GPUS = {"NVIDIA A100-SXM4-40GB": "a100_sxm4_40gb", "NVIDIA H100 80GB HBM3": "h100_sxm"}
GPUS_PER_NODE = {"a100_sxm4_40gb": 8, "h100_sxm": 8}
HOST_BOUND = "host-bound server"
_COLUMNS = (
    "task", "model", "gpu", "tp", "pp", "avg_bs", "token_tput_tok_s", "avg_tpot_s",
    "avg_output_tokens",
)  # fmt: skip


def read(file: Path) -> MeasuredData:
    """Reads the file; rows that cannot be used are listed with the reason.

    Raises:
        WorkloadError: The file cannot be read or lacks a column.
    """
    return read_table(
        file, dataset=DATASET, columns=_COLUMNS, parse_row=parse_row, model_column="model"
    )


def parse_row(row: dict[str, Any]) -> Measurement:
    """Returns a row as a measurement.

    Raises:
        RowError: The row cannot be compared with the simulator.
    """
    model = find_model(row.get("model"))
    gpu_name = str(row.get("gpu"))
    if gpu_name not in GPUS:
        raise RowError(f"no specification of the GPU {gpu_name!r} (conf/gpu)")
    if count(row, "pp") > 1:
        raise RowError("pipeline parallelism is not modelled")
    task = str(row.get("task"))
    if task not in TASKS:
        raise RowError(f"task {task!r}: its request lengths are not known")
    gpu = find_gpu(GPUS[gpu_name])
    batch = number(row, "avg_bs")
    steps = steady_steps(batch, number(row, "avg_output_tokens"), TASKS[task])
    return Measurement(
        dataset=DATASET,
        gpu=gpu,
        model=model,
        model_id=str(row["model"]),
        run=f"{row['model']} {task} {count(row, 'tp')}x{gpu_name}",
        parallelism=Parallelism(tensor=count(row, "tp"), gpus_per_node=GPUS_PER_NODE[gpu.name]),
        batch=batch,
        counted_tokens=1.0,
        steps=tuple(steps),
        cap_w=gpu.power_cap_max_w,
        tpot_s=optional_number(row, "avg_tpot_s"),
        throughput_tok_s=optional_number(row, "token_tput_tok_s"),
        power_w=optional_number(row, "derived_power_W_all_gpus"),
        context_per_seq=steps[0].context_tokens / steps[0].decode_seqs,
        digest=digest(row),
        host_bound=True,
        apart=HOST_BOUND,
    )
