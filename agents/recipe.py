"""Recipes: which algorithm of Stable-Baselines3, with which arguments, on how many servers."""

from __future__ import annotations

import copy
import inspect
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from agents.bundle_facts import check_policy_arguments
from agents.memory import Memory
from envs import catalog
from envs.errors import ConfigurationError
from envs.fields import Checked, Part, Range
from envs.quantities import Decisions

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

_FRACTIONS = frozenset({"gamma", "gae_lambda", "tau", "clip_range"})
_ABOVE_ZERO = frozenset(
    {
        "batch_size", "buffer_size", "clip_range", "clip_range_vf", "learning_rate",
        "max_grad_norm", "n_epochs", "n_steps", "stats_window_size", "target_kl",
        "target_update_interval", "tau", "train_freq",
    }
)  # fmt: skip
"""Arguments with which nothing is learned, or for ever, where they are 0."""
_SIGNED = frozenset({"sde_sample_freq", "target_entropy"})
_OF_THE_TRAINING = frozenset({"env", "seed", "device"})
_TEXTS = frozenset({"tensorboard_log"})
_OF_THE_OPTIMISER = frozenset({"optimizer_class", "optimizer_kwargs"})
_REFUSALS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What the library raises for arguments that it cannot work with."""
_EVERY = "gradient_steps"  # -1: as many as decisions


@dataclass(kw_only=True)
class Recipe(Checked):
    """How an agent is trained (``conf/agent``).

    Attributes:
        algorithm: Import path of the algorithm's class, of Stable-Baselines3 or sb3-contrib.
        arguments: Its arguments; the training adds environment, seed and device.
        action: Action encoding that suits the algorithm: a name in ``conf/action`` or a mapping.
        servers: Simulated servers stepped together.
        steps: Decisions to train for, of all servers together.
        price_every: Decisions between two updates of the constraints' prices.
        shield: Whether caps are held within the power budget, in training and after
            (:mod:`agents.shield`).
        memory: What the policy is shown of the past, besides the last observation.
    """

    config_key: ClassVar[str] = "agent"

    algorithm: str = "stable_baselines3.PPO"
    arguments: Annotated[dict[str, Any], Part("algorithm argument")] = field(default_factory=dict)
    action: Any = "grid"
    servers: Annotated[int, Range(least=1, most=100_000)] = 256
    steps: Decisions = 3_000_000
    price_every: Decisions = 16_384
    shield: bool = True
    memory: Memory = field(default_factory=Memory)

    @property
    def algorithm_class(self) -> type[BaseAlgorithm]:
        """The algorithm's class.

        Raises:
            ConfigurationError: There is none at the path.
        """
        from stable_baselines3.common.base_class import BaseAlgorithm

        try:
            cls = catalog.buildable("algorithm", self.algorithm)
        except ConfigurationError as error:
            raise ConfigurationError(f"agent.algorithm: {error}") from error
        if not (isinstance(cls, type) and issubclass(cls, BaseAlgorithm)):
            raise ConfigurationError(
                f"agent.algorithm: {self.algorithm} is not an algorithm of Stable-Baselines3"
            )
        return cls

    @property
    def policy_arguments(self) -> dict[str, Any]:
        """Arguments of the policy without those that only training needs."""
        given = self.arguments.get("policy_kwargs") or {}
        return {name: value for name, value in given.items() if name not in _OF_THE_OPTIMISER}

    def make(self, env: VecEnv, *, seed: int, device: str) -> BaseAlgorithm:
        """Builds the algorithm.

        Args:
            env: What it learns on.
            seed: Seed of its draws.
            device: Torch device.

        Raises:
            ConfigurationError: An argument is unknown to the class, or out of range.
        """
        cls: Any = self.algorithm_class
        _check_device(device)
        self._check_names(cls)
        self._check_numbers(cls)
        _check_finite("agent.arguments", self.arguments)
        try:
            # A copy: the library puts classes into policy_kwargs, which the bundle could not hold.
            arguments = copy.deepcopy({**self.arguments, **self._lean(cls, env)})
            algorithm: BaseAlgorithm = cls(env=env, seed=seed, device=device, **arguments)
        except _REFUSALS as error:
            raise ConfigurationError(f"agent.arguments: {error}") from error
        return algorithm

    def _check_names(self, cls: type[BaseAlgorithm]) -> None:
        """Checks which arguments are given, and that the policy is one for vectors.

        Raises:
            ConfigurationError: One is not the user's to give, or there is no such policy.
        """
        for name in self.arguments:
            if name in _OF_THE_TRAINING or name.startswith("_"):
                own = {"seed": "seed", "device": "torch_device"}.get(name)
                key = "" if own is None else f"; set {own} itself"
                raise ConfigurationError(
                    f"agent.arguments.{name}: cannot be given, the training does{key}"
                )
        if not isinstance(self.arguments.get("policy_kwargs") or {}, Mapping):
            raise ConfigurationError("agent.arguments.policy_kwargs: must be a mapping")
        # What no bundle may hold would be refused after the training, and the agent lost.
        check_policy_arguments("agent.arguments.policy_kwargs", self.policy_arguments)
        policy = self.arguments.get("policy")
        known = sorted(name for name in cls.policy_aliases if name.startswith("Mlp"))
        if policy not in known:
            raise ConfigurationError(
                f"agent.arguments.policy: must be {' or '.join(known)}, as observations are "
                f"vectors, got {policy!r}"
            )

    def _check_numbers(self, cls: type[BaseAlgorithm]) -> None:
        """Checks arguments that are numbers: the library trains with NaN without a word.

        Raises:
            ConfigurationError: One is of another kind than the class's own, or out of range.
        """
        for name, parameter in inspect.signature(cls).parameters.items():
            usual, value = parameter.default, self.arguments.get(name, parameter.default)
            if value is usual:
                continue
            if isinstance(usual, bool):
                if not isinstance(value, bool):
                    raise ConfigurationError(
                        f"agent.arguments.{name}: must be true or false, got {value!r}"
                    )
                continue
            if usual is None and isinstance(value, str) and name not in _TEXTS | _ABOVE_ZERO:
                raise ConfigurationError(f"agent.arguments.{name}: cannot be text, got {value!r}")
            numeric = isinstance(usual, int | float)
            if callable(value) and (numeric or usual is None):  # a schedule, which may end at 0
                _check_schedule(name, value)
            elif numeric or isinstance(value, int | float) or name in _ABOVE_ZERO:
                _check_number(name, value, whole=isinstance(usual, int))

    def _lean(self, cls: Any, env: VecEnv) -> dict[str, Any]:
        """Returns the faster forms of a policy and a buffer that have one; see there."""
        from stable_baselines3 import PPO
        from stable_baselines3.common.policies import ActorCriticPolicy

        from agents.lean_policy import LeanPolicy, ShuffledBuffer, choices_of

        named = PPO.policy_aliases.get(str(self.arguments.get("policy")))
        if cls is not PPO or named is not ActorCriticPolicy or not choices_of(env.action_space):
            return {}
        buffer = self.arguments.get("rollout_buffer_class", ShuffledBuffer)
        chosen = dict(self.arguments.get("policy_kwargs") or {})
        if "optimizer_class" not in chosen:
            # Adam in one call for all parameters; the policy's own default is this eps.
            own = chosen.get("optimizer_kwargs", {"eps": 1e-5})
            chosen["optimizer_kwargs"] = {"fused": True, **own}
        return {"policy": LeanPolicy, "rollout_buffer_class": buffer, "policy_kwargs": chosen}


def _check_device(device: str) -> None:
    """Checks that a device is there: the library takes the CPU instead without a word.

    Raises:
        ConfigurationError: It is not.
    """
    import torch

    if device == "auto":
        return
    try:
        torch.zeros(1, device=device).cpu()
    except _REFUSALS as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"torch_device: {device!r} cannot be used ({reason}); take cpu, or auto"
        ) from error


def _check_finite(key: str, value: Any) -> None:
    """Checks numbers wherever they stand: networks are made with NaN without a word.

    Raises:
        ConfigurationError: One is not finite.
    """
    if isinstance(value, Mapping):
        for name, own in value.items():
            _check_finite(f"{key}.{name}", own)
    elif isinstance(value, list | tuple):
        for own in value:
            _check_finite(key, own)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{key}: must be finite, got {value!r}")


def _check_schedule(name: str, schedule: Any) -> None:
    """Checks a schedule at its two ends, the second of which may be 0.

    Raises:
        ConfigurationError: It gives no number there, or one out of range.
    """
    end = getattr(schedule, "end_fraction", 1.0)
    number = isinstance(end, int | float) and not isinstance(end, bool)
    if not number or not 0.0 < end <= 1.0:
        raise ConfigurationError(
            f"agent.arguments.{name}.end_fraction: must be > 0 and <= 1, got {end!r}"
        )
    try:
        first, last = schedule(1.0), schedule(0.0)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigurationError(f"agent.arguments.{name}: gives no number: {error}") from error
    _check_number(name, first, whole=False)
    _check_number(name, last, whole=False, may_be_zero=True)


def _check_number(name: str, value: Any, *, whole: bool, may_be_zero: bool = False) -> None:
    """Checks one number that an algorithm is given.

    Raises:
        ConfigurationError: It is no number, or out of range.
    """
    most = 1.0 if name in _FRACTIONS else math.inf
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not number or not -sys.float_info.max <= value <= min(most, sys.float_info.max):
        what = "a whole number" if whole else "a finite number"
        limit = f" up to {most:g}" if most < math.inf else ""
        raise ConfigurationError(f"agent.arguments.{name}: must be {what}{limit}, got {value!r}")
    if name == _EVERY and value != -1 and value < 1:
        raise ConfigurationError(f"agent.arguments.{name}: must be >= 1, or -1, got {value!r}")
    above = name in _ABOVE_ZERO and not may_be_zero
    if name not in _SIGNED and name != _EVERY and (value <= 0 if above else value < 0):
        must = "> 0" if above else ">= 0"
        raise ConfigurationError(f"agent.arguments.{name}: must be {must}, got {value!r}")
