"""Readers: one file format each, all giving the same measurements.

A reader takes a file and returns :class:`~experiments.calibration.data.measurement.MeasuredData`;
a row that it cannot use is listed with the reason, never dropped. To add a format, write a module
with ``parse_row`` and ``read`` and name its file in :data:`FILES`; runs of one's own GPU
(:mod:`.gpu_run`) are found by what lies beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from envs.errors import WorkloadError
from experiments.calibration.data.measurement import MeasuredData
from experiments.calibration.data.readers import (
    argonne,
    cap_sweep,
    gpu_run,
    mlenergy_v2,
    mlenergy_v3,
)

FILES: dict[str, Callable[[Path], MeasuredData]] = {
    "mlenergy-v3/llm_runs.csv": mlenergy_v3.read,
    "mmbt-rtxpro6000/sweep.csv": cap_sweep.read,
    "argonne/Fig_16_power_results.csv": argonne.read,
    "argonne/All_results.csv": argonne.read,
    "mlenergy-v2/llm_runs.csv": mlenergy_v2.read,
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


def _merge(parts: Iterable[MeasuredData]) -> MeasuredData:
    """Joins the rows of several files; a row that two files hold is taken once."""
    merged = MeasuredData()
    for part in parts:
        merged.extend(part)
    merged.measurements = argonne.join_power(merged.measurements)
    return merged
