"""The requests of a load, as a GPU's run recorded them, with what the server did meanwhile."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from envs.errors import WorkloadError
from envs.workloads.base import RequestChunk
from experiments.calibration.data.csv_table import number, optional_number
from experiments.calibration.data.json_lines import read_json_lines
from experiments.calibration.data.measurement import RecordedLoad
from experiments.calibration.data.readers.gpu_run_folder import RunFolder

FILES = ("requests.jsonl", "requests.jsonl.gz")


def read_load(
    folder: Path, phase: str, row: dict[str, Any], run: RunFolder, dataset: str
) -> RecordedLoad | None:
    """Returns the requests of a phase, or ``None`` where none were kept.

    Args:
        folder: Folder of the run.
        phase: Its name.
        row: Its row of ``rows.csv``, which tells when it was measured and what.
        run: GPU and model.
        dataset: Name of the data set.

    Raises:
        WorkloadError: A request is broken; the message names file and line.
        RowError: A number of the row is missing.
    """
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        return None
    found = [
        _times(f"{file}:{line}", request)
        for line, request in read_json_lines(file)
        if request.get("phase") == phase
    ]
    if not found:
        return None
    found.sort(key=lambda request: request[0])  # as they were sent, not as they were answered
    arrival, prompt, output, first = np.array(found).T
    in_flight = optional_number(row, "in_flight")
    begin = number(row, "begin_s")
    end = begin + number(row, "seconds")
    waited = (first - arrival)[(arrival >= begin) & (arrival < end)]
    clock_mhz = number(row, "sm_clock_mhz")
    start = float(arrival[0])
    return RecordedLoad(
        dataset=dataset,
        gpu=run.gpu,
        model=run.model,
        run=f"{run.name} {phase}",
        engine=run.engine,
        requests=RequestChunk(arrival - start, prompt.astype(np.int64), output.astype(np.int64)),
        in_flight=None if in_flight is None else int(in_flight),
        begin_s=begin - start,
        end_s=end - start,
        running=number(row, "running"),
        output_tok_s=number(row, "output_tok_s"),
        prompt_tok_s=number(row, "prompt_tok_s"),
        itl_s=number(row, "server_itl_ms") / 1e3,
        ttft_mean_s=number(row, "server_ttft_ms") / 1e3,
        ttft_p50_s=float(np.nanmedian(waited)) if np.isfinite(waited).any() else None,
        power_w=number(row, "energy_counter_w"),
        clock_fraction=clock_mhz / run.gpu.sm_clock_max_mhz,
    )


def _times(place: str, request: dict[str, Any]) -> tuple[float, float, float, float]:
    """Returns due (or sent) time, prompt, output and time of the first token, or ``nan``."""
    due = request.get("due_s")
    arrival = request.get("sent_s") if due is None else due
    prompt, output = request.get("prompt_tokens"), request.get("output_tokens")
    found = [float(x) for x in (arrival, prompt, output) if isinstance(x, int | float) and x > 0]
    if len(found) != 3:
        raise WorkloadError(
            f"{place}: needs due_s or sent_s, prompt_tokens and output_tokens, all above 0"
        )
    first = request.get("first_s")
    return found[0], found[1], found[2], math.nan if first is None else float(first)
