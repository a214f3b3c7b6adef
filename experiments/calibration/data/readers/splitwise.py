"""Batches on A100-80GB by Splitwise (``splitwise-sim/perf_model.csv``, Patel et al., ISCA 2024).

One batch from its first prompt to its last token on vLLM of 2023, which was host-bound: the
energy of its steps counts, in the time that they took. ``average_power`` is over the whole batch,
as a fraction of 400 W. Rows of ``h100-80gb-pcap`` were computed from others and are never used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.simulator.parallelism import Parallelism
from experiments.calibration.data.csv_table import RowError, count, number
from experiments.calibration.data.measurement import (
    MeasuredData,
    Measurement,
    StepKind,
    digest,
)
from experiments.calibration.data.readers.frame import read_table
from experiments.calibration.data.specifications import find_gpu, find_model

DATASET = "splitwise"
GPUS = {"a100-80gb": "a100_sxm4_80gb", "h100-80gb": "h100_sxm"}
MODELS = {"llama2-70b": "llama2_70b"}
"""Names of its models in the catalogue."""
TDP_W = 400.0
LONGEST = 1024.0
"""Prompt from which on the mean power falls as prompts grow, down to that of a GPU without work:
these readings miss the prompts."""
PREFILL_BUDGET = 4096.0
_COLUMNS = (
    "model", "hardware", "prompt_size", "batch_size", "token_size", "average_power",
    "prompt_time", "token_time", "e2e_time", "tensor_parallel",
)  # fmt: skip


def read(file: Path) -> MeasuredData:
    """Reads the file; rows that cannot be used are listed with the reason.

    Raises:
        WorkloadError: The file cannot be read or lacks a column.
    """
    data = read_table(
        file, dataset=DATASET, columns=_COLUMNS, parse_row=parse_row, model_column="model"
    )
    data.measurements = _once(data.measurements)
    return data


def parse_row(row: dict[str, Any]) -> Measurement:
    """Returns a row as a measurement.

    Raises:
        RowError: The row was not measured, or not what it would have to be.
    """
    hardware = str(row.get("hardware"))
    if hardware not in GPUS:
        raise RowError(f"{hardware!r} was computed, not measured")
    if hardware != "a100-80gb":
        raise RowError("its power was not measured, its times are of vLLM of 2023")
    gpu, model = (
        find_gpu(GPUS[hardware]),
        find_model(MODELS.get(str(row.get("model")), row.get("model"))),
    )
    gpus = count(row, "tensor_parallel")
    prompt, output = number(row, "prompt_size"), number(row, "token_size")
    batch = number(row, "batch_size")
    power_w = TDP_W * number(row, "average_power")
    if prompt > LONGEST:
        raise RowError(f"its mean of {power_w:.0f} W misses the prompt")
    total = batch * prompt
    chunk = min(total, max(1.0, PREFILL_BUDGET // prompt) * prompt)
    decode = StepKind(batch, batch * (prompt + 0.5 * output), 0.0, 0.0, 1.0 - 1.0 / output, 1.0)
    prefill = StepKind(0.0, 0.0, chunk, 0.5 * chunk * prompt, total / chunk / output, 0.0)
    seconds = (number(row, "prompt_time") + (output - 1.0) * number(row, "token_time")) / 1e3
    return Measurement(
        dataset=DATASET,
        gpu=gpu,
        model=model,
        model_id=str(row["model"]),
        run=f"{row['model']} {prompt:g} {gpus}x{hardware}",
        parallelism=Parallelism(tensor=gpus, gpus_per_node=8),
        batch=batch,
        counted_tokens=1.0,
        steps=(decode, prefill),
        cap_w=gpu.power_cap_max_w,
        tpot_s=seconds / output,
        throughput_tok_s=batch * output / seconds,
        power_w=gpus * power_w,
        context_per_seq=prompt + 0.5 * output,
        digest=digest({k: row.get(k) for k in _COLUMNS}),
        weights={"itl": 0.0, "tpot": 0.0, "throughput": 0.0, "power": 0.5},
        host_bound=True,
    )


def _once(measurements: list[Measurement]) -> list[Measurement]:
    """Keeps one of five repeats, whose powers are the same number."""
    found = {(m.run, m.batch): m for m in reversed(measurements)}
    return list(reversed(found.values()))
