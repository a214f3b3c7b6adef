"""What is controlled: a server, its requests and its objective. The one list of these parts.

Everything that builds an environment takes a :class:`Scenario`; ``gymnasium.make`` takes its
fields as keyword arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from omegaconf import OmegaConf

from envs import catalog
from envs.errors import ConfigurationError
from envs.fields import check_values
from envs.nearest import did_you_mean
from envs.quantities import Interval, Seconds
from envs.user_paths import user_path

if TYPE_CHECKING:
    from envs.actions.base import ActionEncoding
    from envs.objectives.objective import Objective
    from envs.rewards import Reward
    from envs.simulator.calibration import Calibration
    from envs.simulator.gpus import GPUSpec
    from envs.simulator.models import ModelSpec
    from envs.workloads.base import Workload

MOST_INTERVALS = 20_000_000
"""Longest episode: its conditions have to fit into memory."""
Named = str | Mapping[str, Any]
"""A name in ``conf/<group>``, or a mapping with the keys of such a file."""


class ServerConfig(Protocol):
    """What every configuration of a server provides (``conf/server``)."""

    @property
    def is_simulated(self) -> bool:
        """Whether the server is simulated: an episode can be run again, or ahead of time."""


@dataclass(frozen=True, kw_only=True)
class _Plain:
    interval_s: Interval
    duration_s: Seconds
    domain_randomization: bool


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A server, its requests and its objective.

    Every choice is a name from ``conf/<group>``, a mapping with the keys of such a file
    (``{"base": "poisson_gsm8k", "load": 1.2}``) or a built object. Mappings are copied, so that
    a scenario does not change when the caller's mapping does.

    Attributes:
        model: Model that is served, or the path of a Hugging Face ``config.json``; a live
            server knows its own.
        gpu: GPU type; a live server may go without.
        workload: Arrivals and request lengths.
        objective: Targets, power budgets and latency SLOs.
        action: How actions encode knobs.
        reward: Reward terms and weights.
        server: Parallelism and limits of a simulated server, or a live or remote server.
        calibration: Coefficients of the simulated GPU; ``None`` takes those the GPU names.
        interval_s: Time between two decisions in seconds (arXiv:2605.21427 §3: 0.5 s).
        duration_s: Time in seconds over which the objective's signals are laid out.
        domain_randomization: Draws the simulator's coefficients again for every episode,
            within their uncertainty.
    """

    model: Named | ModelSpec | None = "mixtral_8x7b"
    gpu: Named | GPUSpec | None = "a100_sxm4_80gb"
    workload: Named | Workload = "poisson_gsm8k"
    objective: Named | Objective = "throughput_target"
    action: Named | ActionEncoding = "grid"
    reward: Named | Reward = "default"
    server: Named | ServerConfig = "simulated"
    calibration: Named | Calibration | None = None
    interval_s: Interval = 0.5
    duration_s: Seconds = 600.0
    domain_randomization: bool = False

    def __post_init__(self) -> None:
        for name in CHOICES:
            object.__setattr__(self, name, _choice(name, getattr(self, name)))
        own = {field.name: getattr(self, field.name) for field in fields(_Plain)}
        check_values(_Plain, own, "")
        if self.duration_s / self.interval_s > MOST_INTERVALS:
            raise ConfigurationError(
                f"duration: must be at most {MOST_INTERVALS:,} intervals of {self.interval_s:g} s, "
                f"got {self.duration_s:g}"
            )

    @classmethod
    def of(cls, **parts: Any) -> Scenario:
        """Returns a scenario of parts by name.

        Raises:
            ConfigurationError: A part has no such name.
        """
        unknown = sorted(parts.keys() - PARTS)
        if unknown:
            raise ConfigurationError(
                f"{unknown[0]}: no such part of a scenario{did_you_mean(unknown[0], PARTS)} "
                f"(there are {', '.join(sorted(PARTS))})"
            )
        return cls(**parts)

    @property
    def server_config(self) -> ServerConfig:
        """The server's configuration, built."""
        config: ServerConfig = catalog.build("server", self.server)
        return config

    @property
    def is_simulated(self) -> bool:
        """Whether the server is simulated: an episode can be run again, or ahead of time."""
        return self.server_config.is_simulated

    def content(self) -> dict[str, Any]:
        """Returns all parts as plain values, each name replaced by its configuration.

        Equal contents describe the same scenario, in whatever form it was given; the contents can
        be written as JSON or YAML, and hashed.

        Raises:
            ConfigurationError: A name is unknown, or an object cannot be written down.
        """
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: described(name, value) for name, value in parts.items()}

    def __hash__(self) -> int:
        return hash(json.dumps(self.content(), sort_keys=True))


PARTS = frozenset(field.name for field in fields(Scenario))
CHOICES = tuple(
    field.name for field in fields(Scenario) if catalog.CONF_DIR.joinpath(field.name).is_dir()
)
"""The parts that are chosen from a group of ``conf``."""
_OPTIONAL = frozenset({"model", "gpu", "calibration"})
"""Those of them that a scenario may go without."""


def _choice(group: str, value: Any) -> Any:
    """Returns a copy of a choice; the path of a model as a mapping.

    Raises:
        ConfigurationError: It is an object of another class than the group's, or missing.
    """
    if isinstance(value, Mapping):
        return plain(value)
    if value is None and group not in _OPTIONAL:
        raise catalog.nothing_chosen(group)
    if value is not None:
        catalog.refuse_other(group, value)
    if group == "model" and isinstance(value, str) and is_model_file(value):
        return {"base": "huggingface", "path": value}
    return value


def is_model_file(text: str) -> bool:
    """Returns whether the choice of a model is the path of its ``config.json`` or folder.

    A name in the catalogue is that model, whatever folder is called the same; a folder that is
    named without a path has to hold a ``config.json``.
    """
    if text in catalog.names("model"):
        return False
    folder = user_path(text, "model")
    if text.endswith(".json"):
        return True
    return folder.is_dir() and ("/" in text or (folder / "config.json").is_file())


def plain(node: Any) -> Any:
    """Returns a mapping or composed configuration as a resolved copy of plain values."""
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True)
    if isinstance(node, Mapping):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(item) for item in node]
    return node


def described(group: str, value: Any) -> Any:
    """Returns a choice of a group as plain values, whatever it is given as.

    Args:
        group: The group that names are looked up in, and the key that errors name.
        value: A name, a mapping, an object of a dataclass or a plain value.

    Raises:
        ConfigurationError: The name is unknown, or the object cannot be written down.
    """
    named = isinstance(value, str) and catalog.CONF_DIR.joinpath(group).is_dir()
    if named or isinstance(value, Mapping):
        return catalog.resolved(group, catalog.load(group, value))
    return _written(group, value)


def _written(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        target = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"_target_": target} | {
            name: _written(f"{key}.{name}", item) for name, item in own.items()
        }
    if isinstance(value, Mapping):
        return {str(name): _written(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(f"{key}[{index}]", item) for index, item in enumerate(value)]
    raise ConfigurationError(
        f"{key}: an object of {type(value).__name__} cannot be written down; make it a dataclass, "
        "or name it by a mapping with '_target_'"
    )
