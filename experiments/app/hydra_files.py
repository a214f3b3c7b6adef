"""What Hydra writes of a job: masked from its first byte on, whole, and under the folder's lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core import utils
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from envs.cache import atomic_write_text
from envs.masking import Masking
from experiments.app.stand_in import standing_in

_SWEEP_FILE = "multirun.yaml"
_held: dict[Path, str] = {}


@contextmanager
def hydras_files_held() -> Iterator[None]:
    """Has Hydra hold what it would write of a job, for :func:`write_hydras_files`.

    Hydra writes before the job begins: what nothing has masked yet, over the files of another
    command that runs in the same folder, and of a full disk it names no file.
    """

    def hold(config: Any, name: str, folder: Path) -> None:
        _held[Path(folder) / name] = OmegaConf.to_yaml(config)

    with standing_in(utils, "_save_config", hold):
        try:
            yield
        finally:
            _held.clear()


def write_hydras_files(masking: Masking, config: DictConfig) -> None:
    """Writes what Hydra holds of this job.

    Args:
        masking: Masks the secrets of the job's configuration.
        config: The configuration; files about a live server are for their owner alone.

    Raises:
        OSError: A file cannot be written; the error names it.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    for file in list(_held):
        text = _held.pop(file)
        if file.is_relative_to(folder):  # not of a job that was refused
            atomic_write_text(file, masking.text(text), private=_private(config))


def mask_hydras_files(masking: Masking, config: DictConfig) -> None:
    """Masks secrets in what Hydra has written itself: a sweep's file, and jobs of other processes.

    Args:
        masking: Masks the secrets of the job's configuration.
        config: The configuration; files about a live server are for their owner alone.
    """
    hydra = HydraConfig.get()
    files: list[Path] = []
    if hydra.output_subdir is not None:
        files += (Path(hydra.runtime.output_dir) / hydra.output_subdir).glob("*.yaml")
    if hydra.mode == RunMode.MULTIRUN:
        files.append(Path(hydra.sweep.dir) / _SWEEP_FILE)
    for file in files:
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            shown = masking.text(text)
            if _private(config) or shown != text:
                atomic_write_text(file, shown, private=_private(config))


def _private(config: DictConfig) -> bool:
    return "url" in (config.get("server") or {})
