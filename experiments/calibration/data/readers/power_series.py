"""Power around load steps, every quarter second (``powertrace-derived/transients.csv``).

Stretches of long prompts, during which nothing changes, are also measurements: of the power at
which the limit holds the clock, and of that clock.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibration.data.csv_table import RowError, number, read_rows
from experiments.calibration.data.measurement import (
    MeasuredData,
    Measurement,
    Skipped,
    StepKind,
    digest,
)
from experiments.calibration.data.readers.powertrace_runs import DATASET, RUNS, STEP_TOKENS
from experiments.calibration.data.timed_load import PowerSeries, noted_load

STRETCH = "prefill_stretch"
LONG_PROMPT = 16.5e3
"""Tokens of the prompts in such a stretch."""
DECODING = 4.0
"""Requests that decode meanwhile."""
_PLATEAU = 0.95
"""Fraction of the highest reading from which one belongs to the stretch."""
_COLUMNS = ("run", "kind", "t_rel_s", "power_w_per_gpu", "sm_clock_mean_mhz", "note")


def read(file: Path) -> MeasuredData:
    """Reads the file; rows that cannot be used are listed with the reason.

    Raises:
        WorkloadError: The file cannot be read or lacks a column.
    """
    data = MeasuredData()
    readings: dict[tuple[str, str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for line, row in read_rows(file, _COLUMNS):
        try:
            key = (str(row["run"]), str(row["kind"]), str(row["note"]))
            if key[0] not in RUNS:
                raise RowError(f"run {key[0]!r} is not known")
            readings[key].append(_reading(row))
        except RowError as error:
            data.skipped.append(Skipped(DATASET, line, str(row.get("run")), str(error)))
    for (name, kind, note), values in readings.items():
        run = RUNS[name]
        time_s, power_w, clock_mhz = np.array(values).T
        series = PowerSeries(
            dataset=DATASET,
            gpu=run.gpu_spec,
            model=run.model_spec,
            parallelism=run.parallelism,
            run=f"{name} {kind}",
            note=note,
            time_s=time_s,
            power_w=power_w,
            clock_fraction=clock_mhz / run.gpu_spec.sm_clock_max_mhz,
            engine=run.engine,
        )
        load = noted_load(series)
        if load is not None:
            data.timed.append(load)
        if kind == STRETCH:
            data.measurements.append(_stretch(series))
    return data


def _reading(row: dict[str, Any]) -> tuple[float, float, float]:
    time_s = row.get("t_rel_s")
    if not isinstance(time_s, float):
        raise RowError(f"t_rel_s is {time_s!r}, not a number")
    return time_s, number(row, "power_w_per_gpu"), number(row, "sm_clock_mean_mhz")


def _stretch(series: PowerSeries) -> Measurement:
    inside = series.power_w > _PLATEAU * series.power_w.max()
    power_w = float(series.power_w[inside].mean())
    tokens, context = float(STEP_TOKENS), LONG_PROMPT * DECODING
    first = StepKind(DECODING, context, tokens, 0.5 * tokens * tokens, 0.5, 0.5)
    second = StepKind(DECODING, context, tokens, 1.5 * tokens * tokens, 0.5, 0.5)
    return Measurement(
        dataset=DATASET,
        gpu=series.gpu,
        model=series.model,
        model_id=series.model.name,
        run=f"{series.run} {series.note}",
        parallelism=series.parallelism,
        batch=DECODING,
        counted_tokens=1.0,
        steps=(first, second),
        cap_w=series.gpu.power_cap_max_w,
        power_w=power_w,
        clock_fraction=float(series.clock_fraction[inside].mean()),
        context_per_seq=LONG_PROMPT,
        digest=digest({"run": series.run, "note": series.note, "power_w": power_w}),
        engine=series.engine,
    )
