"""Readers: one file format each, all giving the same measurements.

A reader takes a file and returns a :class:`~experiments.calibration.data.measurement.Reading`; a
row that it cannot use is listed with the reason, never dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from envs.errors import WorkloadError
from experiments.calibration.data.measurement import Reading
from experiments.calibration.data.readers import argonne, cap_sweep, mlenergy_v2, mlenergy_v3

FILES: dict[str, Callable[[Path], Reading]] = {
    "mlenergy-v3/llm_runs.csv": mlenergy_v3.read,
    "mmbt-rtxpro6000/sweep.csv": cap_sweep.read,
    "argonne/Fig_16_power_results.csv": argonne.read,
    "argonne/All_results.csv": argonne.read,
    "mlenergy-v2/llm_runs.csv": mlenergy_v2.read,
}
"""Files looked for in a data folder, and who reads them."""


def read_folder(folder: Path) -> tuple[Reading, list[Path]]:
    """Reads every known file of a data folder.

    Returns:
        What was found, and the files it was found in.

    Raises:
        WorkloadError: The folder holds none of the known files, or one is broken.
    """
    files = [name for name in FILES if (folder / name).is_file()]
    if not files:
        raise WorkloadError(f"{folder}: holds none of {', '.join(FILES)}; set data=DIR")
    return _merge(FILES[name](folder / name) for name in files), [folder / n for n in files]


def _merge(readings: Iterable[Reading]) -> Reading:
    """Joins readings; a row that two files hold is taken once, power included."""
    merged = Reading()
    for reading in readings:
        merged.extend(reading)
    merged.measurements = argonne.join_power(merged.measurements)
    return merged
