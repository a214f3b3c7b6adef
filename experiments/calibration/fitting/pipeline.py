"""Fits the calibration that a configuration describes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from envs import catalog
from envs.factory import build_model
from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from envs.user_paths import user_path
from experiments.calibration.config import CalibrateConfig, ProfileRecord, data_folders
from experiments.calibration.data.kernel_rows import KernelTables
from experiments.calibration.data.measurement import MeasuredData, Measurement, Skipped
from experiments.calibration.data.readers import aiconfigurator, profile_records, read_measured
from experiments.calibration.fitting.gpu_fit import fit_gpu, from_kernels
from experiments.calibration.fitting.kernel_fit import NO_KERNELS, fit_kernels
from experiments.calibration.fitting.store import finished

NO_DATA = "none"
_OTHER_BOARD = {"power": 0.0, "clock": 0.0, "tpot": 0.05, "itl": 0.05}
"""Weights of rows of another board with the same chip: its power is another one, and its times,
with an engine of their own, count for less than those of the board itself."""


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
    tables = None
    if config.data != NO_DATA:
        folder, *further = data_folders(config.data)
        data, files = read_measured(folder, further)
        tables = kernel_tables(folder, gpu)
    for record in config.profiles:
        data.extend(_profile(record, gpu))
        files.append(Path(record.path))
    rows = fit_rows(data.measurements, gpu)
    kernels = NO_KERNELS
    if tables is not None:
        kernels = fit_kernels(tables)
        files += tables.files
    if config.start is not None:
        rows = []
        near: Calibration = catalog.build("calibration", config.start)
        fitted = from_kernels(gpu, near, kernels)
    else:
        fitted = fit_gpu(gpu, rows, kernels=kernels)
    return finished(gpu, fitted, rows, files), rows, data.skipped


def kernel_tables(folder: Path, gpu: GPUSpec) -> KernelTables | None:
    """Returns the kernel tables of a GPU type, or of one that shares its calibration.

    Raises:
        WorkloadError: A file of theirs cannot be read.
    """
    known = (catalog.build("gpu", name) for name in catalog.names("gpu"))
    alike = [gpu, *(other for other in known if _same_chip(other, gpu))]
    folders = aiconfigurator.find(folder)
    for wanted in ([gpu], alike):
        for one in folders:
            tables = aiconfigurator.read(one, wanted)
            if tables is not None:
                return tables
    return None


def fit_rows(measurements: Sequence[Measurement], gpu: GPUSpec) -> list[Measurement]:
    """Returns the rows that the calibration of a GPU type is fitted to.

    Rows of other boards with the same chip tell its times, with less weight, not its power.
    """
    return [
        m if m.gpu.calibration == gpu.calibration else replace(m, weights=_OTHER_BOARD)
        for m in measurements
        if not m.apart and _same_chip(m.gpu, gpu)
    ]


def _same_chip(one: GPUSpec, other: GPUSpec) -> bool:
    return one.calibration == other.calibration or (one.chip != "" and one.chip == other.chip)


def reasons(skipped: Sequence[Skipped]) -> list[tuple[str, str, int]]:
    """Returns ``(dataset, reason, rows)``, most frequent first."""
    counted = Counter((item.dataset, item.reason) for item in skipped)
    return [(dataset, reason, rows) for (dataset, reason), rows in counted.most_common()]


def _profile(record: ProfileRecord, gpu: GPUSpec) -> MeasuredData:
    model = build_model(record.model)
    file = user_path(record.path, "profiles.path")
    return profile_records.read(file, gpu, model, record.prompt_tokens, record.gpus_per_node)
