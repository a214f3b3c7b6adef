"""A profile of one's own server, as ``python -m experiments.profile`` writes it.

Its rows give the number of running requests, their context and the rates of prompt and output
tokens at every cap and batch limit, so that any machine that was profiled can be calibrated.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from experiments.calibration.data.csv_table import count, number, optional_number
from experiments.calibration.data.measurement import MeasuredData, Measurement, StepKind, digest
from experiments.calibration.data.readers.frame import read_table

DATASET = "profile"
_COLUMNS = (
    "power_cap_w", "max_num_seqs", "throughput_tok_s", "prompt_tok_s", "power_w", "running",
    "context_tokens",
)  # fmt: skip


def read(
    file: Path, gpu: GPUSpec, model: ModelSpec, prompt_tokens: float, gpus_per_node: int
) -> MeasuredData:
    """Reads a ``profile.csv``.

    Args:
        file: The file.
        gpu: GPU type of the server.
        model: Model it served.
        prompt_tokens: Mean prompt length of the workload.
        gpus_per_node: GPUs that share the fast link.

    Raises:
        WorkloadError: The file cannot be read or lacks a column.
    """

    def parse_row(row: dict[str, Any]) -> Measurement:
        return _measurement(row, gpu, model, prompt_tokens, gpus_per_node)

    return read_table(
        file, dataset=DATASET, columns=_COLUMNS, parse_row=parse_row, model=model.name
    )


def _measurement(
    row: dict[str, Any], gpu: GPUSpec, model: ModelSpec, prompt_tokens: float, gpus_per_node: int
) -> Measurement:
    parallelism = Parallelism(
        count(row, "tensor_parallel"),
        count(row, "expert_parallel"),
        count(row, "data_parallel"),
        gpus_per_node,
    )
    running = number(row, "running")
    throughput = number(row, "throughput_tok_s")
    prompts = optional_number(row, "prompt_tok_s") or 0.0
    clock_mhz = optional_number(row, "sm_clock_mhz")
    context = number(row, "context_tokens")
    sequences = running / parallelism.data
    tokens = prompts / throughput * sequences
    mixed = -math.expm1(-tokens / prompt_tokens)
    pairs = 0.5 * prompt_tokens
    steps = [StepKind(sequences, sequences * context, 0.0, 0.0, 1.0 - mixed, 1.0)]
    if mixed > 0.0:
        computed = tokens / mixed
        steps.append(
            StepKind(sequences, sequences * context, computed, computed * pairs, mixed, 0.0)
        )
    shape = f"{parallelism.tensor}/{parallelism.expert}/{parallelism.data}"
    return Measurement(
        dataset=DATASET,
        gpu=gpu,
        model=model,
        model_id=model.name,
        run=f"{model.name} {shape} {row['max_num_seqs']:g}",
        parallelism=parallelism,
        batch=running,
        counted_tokens=1.0,
        steps=tuple(steps),
        cap_w=number(row, "power_cap_w"),
        tpot_s=running / throughput,
        throughput_tok_s=throughput,
        power_w=number(row, "power_w"),
        clock_fraction=None if not clock_mhz else min(1.0, clock_mhz / gpu.sm_clock_max_mhz),
        context_per_seq=context,
        digest=digest(row),
    )
