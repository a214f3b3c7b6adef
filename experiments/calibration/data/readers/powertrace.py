"""Aggregates of servers watched every quarter second (``powertrace-derived/aggregates.csv``).

Power, clock and iterations by number of running requests, with and without prompts in the
interval; vLLM on A100-SXM4-80GB boards with a limit of 500 W and on H100 whose site allows
1830 MHz. Where prompts are computed the rows give tokens per iteration, not which iterations
computed them: prompts of the run's usual length are assumed to come whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from experiments.calibration.data.csv_table import (
    RowError,
    count,
    number,
    optional_number,
    read_rows,
)
from experiments.calibration.data.measurement import (
    IdlePower,
    MeasuredData,
    Measurement,
    Skipped,
    StepKind,
    digest,
)
from experiments.calibration.data.readers.powertrace_runs import (
    DATASET,
    GPUS,
    GPUS_PER_NODE,
    MODELS,
    RUNS,
    Run,
    clock_limit,
)
from experiments.calibration.data.specifications import find_gpu, find_model

CONTEXT_TOKENS = 600.0
"""Context per sequence of runs that do not record it."""
_COLUMNS = (
    "run", "gpu", "model", "tp", "prefill", "running_bin", "n_power", "mean_batch",
    "power_w_per_gpu", "sm_clock_mhz", "prompt_tok_s", "iter_s", "iteration_ms", "kv_tokens",
)  # fmt: skip
_SMOOTHED = "_regression_1s"
_SURE = 8.0
"""Readings at which a row counts half of one with very many."""


_UNKNOWN = Run("", "", 1)
"""A run of which nothing more is known."""


def read(file: Path) -> MeasuredData:
    """Reads the file; rows that cannot be used are listed with the reason.

    Raises:
        WorkloadError: The file cannot be read or lacks a column.
    """
    rows = list(read_rows(file, _COLUMNS))
    smoothed = {_bin(row) for _, row in rows if _smoothed(row)}
    data = MeasuredData()
    for line, row in rows:
        if not _smoothed(row) and _bin(row) in smoothed:
            row["power_w_per_gpu"] = None  # the other row takes the sensor's mean apart
        try:
            _add(data, row)
        except RowError as error:
            data.skipped.append(Skipped(DATASET, line, str(row.get("model")), str(error)))
    return data


def _smoothed(row: dict[str, Any]) -> bool:
    return str(row.get("prefill")).endswith(_SMOOTHED)


def _bin(row: dict[str, Any]) -> tuple[str, str, str]:
    prefill = str(row.get("prefill")).removesuffix(_SMOOTHED)
    return str(row.get("run")), str(float(prefill)), str(row.get("running_bin"))


def _add(data: MeasuredData, row: dict[str, Any]) -> None:
    gpu, model = find_gpu(GPUS[str(row["gpu"])]), _model(row)
    if optional_number(row, "mean_batch") is None and str(row["running_bin"]) in ("0", "0.0"):
        data.idle.append(
            IdlePower(
                dataset=DATASET,
                gpu=gpu,
                model=model,
                run=str(row["run"]),
                power_w=number(row, "power_w_per_gpu"),
                temperature_c=None,
            )
        )
        return
    data.measurements.append(_measurement(row, gpu))


def _model(row: dict[str, Any]) -> ModelSpec:
    name = str(row.get("model"))
    return find_model(MODELS.get(name, name))


def _measurement(row: dict[str, Any], gpu: GPUSpec) -> Measurement:
    """Returns a row as a measurement.

    Raises:
        RowError: It lacks a number, or does not tell what was computed.
    """
    model, gpus = _model(row), count(row, "tp")
    batch = number(row, "mean_batch")
    iterations = optional_number(row, "iter_s") or 1e3 / number(row, "iteration_ms")
    context = optional_number(row, "kv_tokens") or CONTEXT_TOKENS * batch
    prompts = optional_number(row, "prompt_tok_s") or 0.0
    run = RUNS.get(str(row["run"]), _UNKNOWN)
    if prompts and run.counts_late:
        raise RowError("prompt tokens are counted when a long prompt ends")
    steps = [StepKind(batch, context, 0.0, 0.0, 1.0, 1.0)]
    if prompts:
        mixed = min(1.0, prompts / iterations / run.prompt_tokens)
        tokens = prompts / iterations / mixed
        steps = [
            StepKind(batch, context, 0.0, 0.0, 1.0 - mixed, 1.0),
            StepKind(batch, context, tokens, 0.5 * tokens * tokens, mixed, 0.0),
        ]
    power_w = optional_number(row, "power_w_per_gpu")
    clock_mhz = optional_number(row, "sm_clock_mhz")
    readings = optional_number(row, "n_power") or 0.0
    trust = readings / (readings + _SURE)
    return Measurement(
        dataset=DATASET,
        gpu=gpu,
        model=model,
        model_id=str(row["model"]),
        run=f"{row['run']} {'with' if prompts else 'without'} prompts",
        parallelism=Parallelism(gpus, gpus_per_node=GPUS_PER_NODE),
        batch=batch,
        counted_tokens=1.0,
        steps=tuple(step for step in steps if step.weight > 0.0),
        cap_w=gpu.power_cap_max_w,
        tpot_s=1.0 / iterations,
        throughput_tok_s=batch * iterations,
        power_w=None if power_w is None else gpus * power_w,
        clock_fraction=None if clock_mhz is None else clock_mhz / gpu.sm_clock_max_mhz,
        context_per_seq=context / batch,
        digest=digest(row),
        clock_limit=clock_limit(gpu),
        weights={"power": trust, "clock": 0.0},
        engine=run.engine,
    )
