"""Settings of ``experiments.calibrate`` and ``experiments.validate``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs import catalog
from envs.errors import ConfigurationError


@dataclass(kw_only=True)
class ProfileRecord:
    """A profile of one's own server to fit to.

    Attributes:
        path: A ``profile.csv`` that ``python -m experiments.profile`` wrote.
        model: Name of the model that was served, or the path of its folder or ``config.json``.
        prompt_tokens: Mean prompt length of the workload.
        gpus_per_node: GPUs that share the fast link.
    """

    path: str = "???"
    model: str = "???"
    prompt_tokens: float = 256.0
    gpus_per_node: int = 4


@dataclass(kw_only=True)
class CalibrateConfig:
    """What to fit to and where the result goes.

    Attributes:
        data: Folder with the measured data; ``none`` to fit to own profiles only. The default
            is ``$PALS_DATA``, or ``../shared/data`` beside the repository.
        gpu: GPU type to fit.
        profiles: Profiles of one's own servers to fit to as well.
        install: Whether the result replaces ``conf/calibration/<name>.yaml``, where ``gpu=``
            finds it.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        debug: What is shown of an error.
    """

    data: str | None = None
    gpu: Any = None
    profiles: list[ProfileRecord] = field(default_factory=list)
    install: bool = False
    allow_packages: list[str] = field(default_factory=list)
    debug: Any = None


@dataclass(kw_only=True)
class ValidateConfig:
    """What to validate against.

    Attributes:
        data: As in :class:`CalibrateConfig`.
        held_out: Whether fits are repeated without each model, family and cap; without it
            only the installed calibrations are evaluated.
        ablations: Whether fits are repeated with parts of the physics taken out.
        processes: Processes that repeat fits side by side.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        debug: What is shown of an error.
    """

    data: str | None = None
    held_out: bool = True
    ablations: bool = False
    processes: int = 2
    allow_packages: list[str] = field(default_factory=list)
    debug: Any = None


@dataclass(kw_only=True)
class PhysicsConfig:
    """What ``docs/physics.md`` is made from.

    Attributes:
        data: As in :class:`CalibrateConfig`.
        page: Markdown file whose marked blocks are replaced; ``none`` for no file.
        images: Folder that the page's plots go to.
        ablations: As in :class:`ValidateConfig`.
        processes: As in :class:`ValidateConfig`.
        forest_models: Models whose profile PALS's forests are fitted to.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        debug: What is shown of an error.
    """

    data: str | None = None
    page: str = "none"
    images: str = "docs/images"
    ablations: bool = True
    processes: int = 2
    forest_models: list[str] = field(
        default_factory=lambda: ["mistral_7b", "mixtral_8x7b", "qwen15_moe_a27b", "olmoe_1b_7b"]
    )
    allow_packages: list[str] = field(default_factory=list)
    debug: Any = None


def data_folder(setting: str | None) -> Path:
    """Returns the folder of measured data that a setting names.

    Raises:
        ConfigurationError: There is no such folder.
    """
    default = catalog.CONF_DIR.parent.parent / "shared" / "data"
    folder = Path(setting or os.environ.get("PALS_DATA") or default).expanduser()
    if not folder.is_dir():
        raise ConfigurationError(
            f"data: there is no folder {folder}; set data=DIR or the variable PALS_DATA to the "
            "folder that holds mlenergy-v3, argonne and the other data sets"
        )
    return folder
