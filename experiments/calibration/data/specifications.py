"""Finds the specifications of models and GPUs that the rows of a data set name."""

from __future__ import annotations

from functools import cache
from typing import Any

from omegaconf import OmegaConf

from envs import catalog
from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from experiments.calibration.data.csv_table import RowError


@cache
def _models_by_id() -> dict[str, ModelSpec]:
    found: dict[str, ModelSpec] = {}
    for name in catalog.names("model"):
        if OmegaConf.missing_keys(catalog.load("model", name)):
            continue  # a choice that asks for a file, not a model of its own
        spec: ModelSpec = catalog.build("model", name)
        for identifier in [name, *spec.huggingface_ids]:
            found[identifier.lower()] = spec
            found.setdefault(identifier.lower().rpartition("/")[2], spec)
    return found


def find_model(identifier: Any) -> ModelSpec:
    """Returns the specification of a model by its identifier or catalogue name.

    Raises:
        RowError: There is no such specification.
    """
    text = str(identifier or "").lower()
    spec = _models_by_id().get(text) or _models_by_id().get(text.rpartition("/")[2])
    if spec is None:
        raise RowError("no specification of this model (conf/model)")
    return spec


@cache
def find_gpu(name: str) -> GPUSpec:
    """Returns the GPU type of a catalogue name."""
    spec: GPUSpec = catalog.build("gpu", name)
    return spec


def find_gpu_of_device(device_name: str) -> GPUSpec:
    """Returns the GPU type whose driver reports a name.

    Raises:
        RowError: There is no such specification.
    """
    for name in catalog.names("gpu"):
        spec = find_gpu(name)
        if spec.device_name == device_name:
            return spec
    raise RowError(f"no specification of the GPU {device_name!r} (conf/gpu)")
