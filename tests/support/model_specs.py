"""Shapes of models as their published ``config.json`` gives them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.simulator.huggingface import read_config, spec_fields
from envs.simulator.models import ModelSpec


def spec_in(path: Path) -> ModelSpec:
    """Returns what a ``config.json``, or the one in a folder, describes."""
    return ModelSpec(**read_config(path))


def spec_of(config: Mapping[str, Any], name: str = "") -> ModelSpec:
    """Returns what the contents of a ``config.json`` describe."""
    return ModelSpec(**spec_fields(config, name))
