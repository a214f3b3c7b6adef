"""Configurations of the commands ``calibrate``, ``validate`` and ``physics``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.errors import ConfigurationError
from envs.quantities import GPUs, MeanTokens, Processes
from envs.user_paths import user_path


@dataclass(kw_only=True)
class ProfileRecord:
    """A profile of a server of yours to fit to.

    Attributes:
        path: A ``profile.csv`` that ``python -m experiments.profile`` wrote.
        model: Name of the model that was served, or the path of its folder or ``config.json``.
        prompt_tokens: Mean prompt length of the workload.
        gpus_per_node: GPUs that share the fast link.
    """

    path: str = "???"
    model: str = "???"
    prompt_tokens: MeanTokens = 256.0
    gpus_per_node: GPUs = 4


@dataclass(kw_only=True)
class CalibrateConfig:
    """Data to fit to, and where the result goes.

    Attributes:
        data: Folder with the measured data; the default is ``$PALS_DATA``. ``none`` fits to
            ``profiles`` only. Of further folders (``data=DIR:docs/measurements/h100``) only power
            and clocks are fitted to: their engine may be of another version.
        gpu: GPU type to fit.
        profiles: Profiles of servers of yours, fitted to as well.
        start: Calibration whose coefficients hold where nothing was measured, of a GPU type of
            which there are only kernel tables; ``None`` where whole servers were measured.
        install: Whether the result replaces ``conf/calibration/<name>.yaml``, where ``gpu=``
            finds it.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        debug: How much of an error is shown.
    """

    data: str | None = None
    gpu: Any = None
    profiles: list[ProfileRecord] = field(default_factory=list)
    start: str | None = None
    install: bool = False
    allow_packages: list[str] = field(default_factory=list)
    debug: Any = None


@dataclass(kw_only=True)
class ValidateConfig:
    """Data to validate against, and how.

    Attributes:
        data: As in :class:`CalibrateConfig`.
        held_out: Whether fits are repeated without each model, family and cap; without it
            only the installed calibrations are evaluated.
        ablations: Whether fits are repeated with parts of the physics removed.
        page: Markdown file whose block ``simulator`` is replaced by the signed errors of runs of
            ``experiments.measure_gpu``; ``none`` for no file.
        processes: Number of processes for repeated fits.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        debug: How much of an error is shown.
    """

    data: str | None = None
    held_out: bool = True
    ablations: bool = False
    page: str = "none"
    processes: Processes = 2
    allow_packages: list[str] = field(default_factory=list)
    debug: Any = None


@dataclass(kw_only=True)
class PhysicsConfig:
    """Data and options for the tables and plots of ``docs/validation.md``.

    Attributes:
        data: As in :class:`CalibrateConfig`.
        page: Markdown file whose marked blocks are replaced; ``none`` for no file.
        images: Folder that the page's plots go to.
        ablations: As in :class:`ValidateConfig`.
        processes: As in :class:`ValidateConfig`.
        forest_models: Models whose profile PALS's forests are fitted to.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        debug: How much of an error is shown.
    """

    data: str | None = None
    page: str = "none"
    images: str = "docs/images"
    ablations: bool = True
    processes: Processes = 2
    forest_models: list[str] = field(
        default_factory=lambda: ["mistral_7b", "mixtral_8x7b", "qwen15_moe_a27b", "olmoe_1b_7b"]
    )
    allow_packages: list[str] = field(default_factory=list)
    debug: Any = None


def data_folders(data: str | None) -> list[Path]:
    """Returns the folders of measured data.

    Args:
        data: The key ``data`` of a configuration: a folder, or several separated by ``:`` (``;``
            on Windows); ``None`` stands for ``$PALS_DATA``.

    Raises:
        ConfigurationError: Neither is given, or there is no such folder.
    """
    holds = "the folder that holds mlenergy-v3, argonne and the other data sets"
    given = data or os.environ.get("PALS_DATA")
    if not given:
        raise ConfigurationError(
            f"data: not given; set data=DIR or the variable PALS_DATA to {holds} "
            "(docs/validation.md lists where to get them)"
        )
    folders = [user_path(part, "data" if data else "PALS_DATA") for part in given.split(os.pathsep)]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigurationError(
                f"data: there is no folder {folder}; set data=DIR or the variable PALS_DATA to "
                f"{holds}"
            )
    return folders
