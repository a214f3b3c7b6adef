"""Power caps on a real vLLM (``mmbt-rtxpro6000/sweep.csv``): RTX PRO 6000, dense and MoE.

Every request carries the same prompt of about 60 tokens, which the prefix cache keeps, and
asks for 200 tokens; so a step computes hardly any prompt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.simulator.parallelism import Parallelism
from experiments.calibration.data.csv_table import (
    number,
    optional_number,
)
from experiments.calibration.data.measurement import MeasuredData, Measurement, StepKind, digest
from experiments.calibration.data.readers.frame import read_table
from experiments.calibration.data.specifications import find_gpu, find_model

DATASET = "mmbt-rtxpro6000"
GPU = "rtx_pro_6000"
PROMPT_TOKENS = 60.0
OUTPUT_TOKENS = 200.0
UNCACHED_TOKENS = 12.0
"""Prompt tokens computed per request: what is left after whole cached blocks."""
_COLUMNS = ("model", "concurrency", "cap_w", "agg_tok_s", "mean_power_w", "mean_sm_mhz")


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
    gpu = find_gpu(GPU)
    batch = number(row, "concurrency")
    throughput = number(row, "agg_tok_s")
    clock_mhz = optional_number(row, "mean_sm_mhz")
    context = PROMPT_TOKENS + 0.5 * OUTPUT_TOKENS
    mixed = 1.0 / OUTPUT_TOKENS if batch <= 1.0 else min(1.0, batch / OUTPUT_TOKENS)
    computed = UNCACHED_TOKENS * batch / OUTPUT_TOKENS / mixed
    steps = (
        StepKind(batch, batch * context, 0.0, 0.0, 1.0 - mixed, 1.0),
        StepKind(batch, batch * context, computed, computed * PROMPT_TOKENS, mixed, 0.0),
    )
    return Measurement(
        dataset=DATASET,
        gpu=gpu,
        model=model,
        model_id=str(row["model"]),
        run=f"{row['model']} {batch:g} requests",
        parallelism=Parallelism(),
        batch=batch,
        counted_tokens=1.0,
        steps=steps,
        cap_w=number(row, "cap_w"),
        tpot_s=batch / throughput,
        throughput_tok_s=throughput,
        power_w=optional_number(row, "mean_power_w"),
        clock_fraction=None if clock_mhz is None else clock_mhz / gpu.sm_clock_max_mhz,
        temperature_c=optional_number(row, "mean_temp_c"),
        context_per_seq=context,
        digest=digest(row),
        has_level=True,
    )
