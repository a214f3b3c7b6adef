"""Readers: one file format each, all giving the same measurements.

A reader takes a file and returns :class:`~experiments.calibration.data.measurement.MeasuredData`;
a row that it cannot use is listed with the reason, never dropped. To add a format, write a module
with ``parse_row`` and ``read`` and name its file in :data:`FILES`; runs of one's own GPU
(:mod:`.gpu_run`) are found by what lies beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from envs.errors import WorkloadError
from experiments.calibration.data.measurement import MeasuredData
from experiments.calibration.data.readers import (
    argonne,
    cap_sweep,
    gpu_run,
    mlenergy_v2,
    mlenergy_v3,
    power_series,
    powertrace,
    splitwise,
)

_POWER_ONLY = {"itl": 0.0, "tpot": 0.0, "throughput": 0.0}

FILES: dict[str, Callable[[Path], MeasuredData]] = {
    "mlenergy-v3/llm_runs.csv": mlenergy_v3.read,
    "mmbt-rtxpro6000/sweep.csv": cap_sweep.read,
    "argonne/Fig_16_power_results.csv": argonne.read,
    "argonne/All_results.csv": argonne.read,
    "mlenergy-v2/llm_runs.csv": mlenergy_v2.read,
    "powertrace-derived/aggregates.csv": powertrace.read,
    "powertrace-derived/transients.csv": power_series.read,
    "splitwise-sim/perf_model.csv": splitwise.read,
}
"""Files that are looked for in a data folder, with their readers."""


def read_folder(folder: Path) -> tuple[MeasuredData, list[Path]]:
    """Reads every known file of a data folder, and every run of ``experiments.measure_gpu``.

    Returns:
        The rows, and the files they come from.

    Raises:
        WorkloadError: The folder holds none of the known files, or one is broken.
    """
    readers = {folder / name: read for name, read in FILES.items() if (folder / name).is_file()}
    readers |= dict.fromkeys(gpu_run.find(folder), gpu_run.read)
    if not readers:
        raise WorkloadError(
            f"{folder}: holds none of {', '.join(FILES)} and no rows.csv with board.json beside "
            "it; set data=DIR"
        )
    return _merge(read(file) for file, read in readers.items()), list(readers)


def read_measured(folder: Path, further: Sequence[Path] = ()) -> tuple[MeasuredData, list[Path]]:
    """Reads a data folder, and further ones whose power counts and whose times do not.

    Raises:
        WorkloadError: A folder holds none of the known files, or one is broken.
    """
    data, files = read_folder(folder)
    for other in further:
        measured, own = read_folder(other)
        measured.measurements = [replace(m, weights=_POWER_ONLY) for m in measured.measurements]
        data.extend(measured)
        files += own
    return data, files


def _merge(parts: Iterable[MeasuredData]) -> MeasuredData:
    """Joins the rows of several files; a row that two files hold is taken once."""
    merged = MeasuredData()
    for part in parts:
        merged.extend(part)
    merged.measurements = argonne.join_power(merged.measurements)
    return merged
