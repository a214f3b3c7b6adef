"""All architectures that are known, by the names that files give them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from envs.simulator.architectures.dense import DENSE
from envs.simulator.architectures.family import Family
from envs.simulator.architectures.hybrids import HYBRID
from envs.simulator.architectures.irregular import IRREGULAR
from envs.simulator.architectures.latents import LATENT
from envs.simulator.architectures.older import OLDER
from envs.simulator.architectures.sparse import SPARSE

TABLE: tuple[Family, ...] = (*DENSE, *SPARSE, *LATENT, *HYBRID, *IRREGULAR, *OLDER)
"""Every architecture that is known. A new one is an entry in one of these files."""

BY_TYPE = {name: family for family in TABLE for name in family.types}
"""The architecture by its ``model_type``."""

TYPE_OF_CLASS = {name: family.type_of(name) for family in TABLE for name in family.classes}
"""A ``model_type`` by the name in ``architectures``."""


@cache
def defaults_by_type() -> Mapping[str, Mapping[str, Any]]:
    """Returns what configuration classes assume where a file is silent, by ``model_type``."""
    found = OmegaConf.to_container(OmegaConf.load(Path(__file__).with_name("defaults.yaml")))
    return cast(Mapping[str, Mapping[str, Any]], found)


def defaults_of(kind: str, family: Family) -> dict[str, Any]:
    """Returns what a file need not say: the architecture's own defaults, under our names.

    Args:
        kind: The ``model_type``.
        family: The architecture.
    """
    theirs = defaults_by_type().get(kind, {})
    ours = {family.renames.get(key, key): value for key, value in theirs.items()}
    return {**ours, **family.defaults}
