"""Power-aware LLM serving as a control problem: the public face.

What :data:`__all__` names is public; all else may change from one version to the next.

    >>> import pals_gym
    >>> result = pals_gym.evaluate(pals_gym.Pals(), pals_gym.Scenario(duration_s=300.0), seeds=3)
    >>> result["tokens_per_joule"], result["qos_violation_rate"]

Importing this registers the environments and is light: what a name stands for is imported when it
is used. ``gymnasium.make("pals_gym:pals/Simulated-v0")`` imports it by itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pals_gym.names import check_names

check_names()

import gymnasium  # noqa: E402 - only once the names are known to be right

import envs  # noqa: E402, F401 - registers the environments

if TYPE_CHECKING:
    from agents.controller import Agent
    from baselines.adaptive_batch import AdaptiveBatch
    from baselines.adaptive_cap import AdaptiveCap
    from baselines.bandit import Bandit
    from baselines.base import Controller, KnobController
    from baselines.clock_lock import ClockLock
    from baselines.governor import Governor
    from baselines.oracle import Oracle
    from baselines.pals.controller import Pals
    from baselines.random import Random
    from baselines.static import Static
    from envs.context import ControlContext
    from envs.errors import PalsError
    from envs.knobs import Knobs
    from envs.objectives.conditions import Conditions
    from envs.observations import Observation
    from envs.rewards import RewardTerm
    from envs.scenario import Scenario
    from envs.telemetry import Telemetry
    from envs.workloads.base import Workload
    from envs.wrappers import FlatCost, StackKnobs, UnitObservation
    from experiments.runs.evaluate import Evaluation, evaluate

__all__ = [
    "AdaptiveBatch",
    "AdaptiveCap",
    "Agent",
    "Bandit",
    "ClockLock",
    "Conditions",
    "ControlContext",
    "Controller",
    "Evaluation",
    "FlatCost",
    "Governor",
    "KnobController",
    "Knobs",
    "Observation",
    "Oracle",
    "Pals",
    "PalsError",
    "Random",
    "RewardTerm",
    "Scenario",
    "StackKnobs",
    "Static",
    "Telemetry",
    "UnitObservation",
    "Workload",
    "evaluate",
    "make",
    "make_vec",
]

_HOMES = {
    "agents.controller": ("Agent",),
    "baselines.adaptive_batch": ("AdaptiveBatch",),
    "baselines.adaptive_cap": ("AdaptiveCap",),
    "baselines.bandit": ("Bandit",),
    "baselines.base": ("Controller", "KnobController"),
    "baselines.clock_lock": ("ClockLock",),
    "baselines.governor": ("Governor",),
    "baselines.oracle": ("Oracle",),
    "baselines.pals.controller": ("Pals",),
    "baselines.random": ("Random",),
    "baselines.static": ("Static",),
    "envs.context": ("ControlContext",),
    "envs.errors": ("PalsError",),
    "envs.knobs": ("Knobs",),
    "envs.objectives.conditions": ("Conditions",),
    "envs.observations": ("Observation",),
    "envs.rewards": ("RewardTerm",),
    "envs.scenario": ("Scenario",),
    "envs.telemetry": ("Telemetry",),
    "envs.workloads.base": ("Workload",),
    "envs.wrappers": ("FlatCost", "StackKnobs", "UnitObservation"),
    "experiments.runs.evaluate": ("Evaluation", "evaluate"),
}
"""The modules that public names come from, the same as above; a test holds both together."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pals_gym' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def make(id: str = "pals/Simulated-v0", **parts: Any) -> gymnasium.Env[Any, Any]:
    """Makes an environment; see :func:`gymnasium.make`.

    Args:
        id: ``pals/Simulated-v0``, ``pals/VLLM-v0``, ``pals/Cluster-v0``, or a scenario of the
            standing comparison, such as ``pals/Bursty60-v0``.
        **parts: Parts of a :class:`Scenario`, such as ``model="olmoe_1b_7b"``, and keyword
            arguments of :func:`gymnasium.make`.
    """
    return gymnasium.make(id, **parts)


def make_vec(
    id: str = "pals/Simulated-v0", num_envs: int = 1, **parts: Any
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Makes an environment of many servers at once; see :func:`gymnasium.make_vec`.

    Args:
        id: ``pals/Simulated-v0``.
        num_envs: Number of servers.
        **parts: As in :func:`make`; where servers differ, a list with one choice per server.
    """
    return gymnasium.make_vec(id, num_envs=num_envs, **parts)
