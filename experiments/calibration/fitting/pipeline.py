"""Fits the calibration that a configuration describes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from envs.factory import build_model
from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from experiments.calibration.config import CalibrateConfig, ProfileRecord, data_folder
from experiments.calibration.data.measurement import MeasuredData, Measurement, Skipped
from experiments.calibration.data.readers import profile_records, read_folder
from experiments.calibration.fitting.gpu_fit import fit_gpu
from experiments.calibration.fitting.store import finished

NO_DATA = "none"


def calibrate(config: CalibrateConfig) -> tuple[Calibration, list[Measurement], list[Skipped]]:
    """Fits the calibration of a GPU type.

    Args:
        config: GPU type, data folder and profiles.

    Returns:
        The calibration, the rows it was fitted to, and the rows that could not be used.

    Raises:
        ConfigurationError: There is no data, or none of this GPU type.
        WorkloadError: A file cannot be read.
    """
    gpu: GPUSpec = config.gpu
    data = MeasuredData()
    files: list[Path] = []
    if config.data != NO_DATA:
        data, files = read_folder(data_folder(config.data))
    for record in config.profiles:
        data.extend(_profile(record, gpu))
        files.append(Path(record.path))
    rows = fit_rows(data.measurements, gpu)
    return finished(gpu, fit_gpu(gpu, rows), rows, files), rows, data.skipped


def fit_rows(measurements: Sequence[Measurement], gpu: GPUSpec) -> list[Measurement]:
    """Returns the rows that the calibration of a GPU type is fitted to."""
    return [m for m in measurements if m.gpu.calibration == gpu.calibration and not m.apart]


def reasons(skipped: Sequence[Skipped]) -> list[tuple[str, str, int]]:
    """Returns ``(dataset, reason, rows)``, most frequent first."""
    counted = Counter((item.dataset, item.reason) for item in skipped)
    return [(dataset, reason, rows) for (dataset, reason), rows in counted.most_common()]


def _profile(record: ProfileRecord, gpu: GPUSpec) -> MeasuredData:
    model = build_model(record.model)
    file = Path(record.path).expanduser()
    return profile_records.read(file, gpu, model, record.prompt_tokens, record.gpus_per_node)
