"""Many simulated servers as the vectorised environment that Stable-Baselines3 trains on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from envs.errors import ConfigurationError
from envs.factory import make_simulated_vector
from envs.simulator.vector import VectorServingEnv


class ServingVecEnv(VecEnv):
    """Stable-Baselines3's view of a :class:`~envs.simulator.vector.VectorServingEnv`.

    Servers whose episode is truncated are reset within the same step: their info then holds
    the last observation of the episode under ``terminal_observation`` and
    ``TimeLimit.truncated``. Observations and rewards are handed on as they are, without a
    copy; each step makes new arrays, so those of earlier steps stay valid.

    Building a dictionary of all values for every server costs more than simulating it, so an
    info holds only the requested keys; :attr:`vector_info` has all of the last step.

    Args:
        env: The servers, in the autoreset mode ``same_step``.
        info_keys: Keys of the vector's info whose value for server ``i`` is put into the i-th
            info at each step, such as ``("cost",)``; dotted keys reach into named fields
            (``"rewards.qos"``, ``"telemetry.power_w"``).

    Attributes:
        env: The servers.
        vector_info: Info of the last step, each value with a leading axis of servers.

    Raises:
        ConfigurationError: ``env`` has another autoreset mode.
    """

    def __init__(self, env: VectorServingEnv, info_keys: Sequence[str] = ()) -> None:
        if env.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ConfigurationError(
                "autoreset_mode: Stable-Baselines3 resets within the step; make the vector "
                f"with autoreset_mode='same_step', not {env.autoreset_mode.name.lower()!r}"
            )
        self.env = env
        self.vector_info: dict[str, Any] = {}
        self._info_keys = tuple(info_keys)
        self._actions: NDArray[Any] | None = None
        self._own: list[dict[str, Any]] = [{} for _ in range(env.num_envs)]
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> NDArray[np.float32]:
        """Starts an episode on every server, with the seeds set by :meth:`seed`, if any."""
        observations, self.vector_info = self.env.reset(seed=list(self._seeds))
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Takes the actions of the step that :meth:`step_wait` carries out."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], list[dict[str, Any]]]:
        """Lets one interval pass; see :meth:`VectorServingEnv.step`.

        Returns:
            Observations, rewards, whether each server's episode has ended, and infos.
        """
        observations, rewards, _, ended, info = self.env.step(self._actions)
        self.vector_info = info
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for key in self._info_keys:
            for own, value in zip(infos, _values(info, key).tolist(), strict=True):
                own[key] = value
        if "final_obs" in info:
            for index in np.flatnonzero(ended):
                infos[index]["TimeLimit.truncated"] = True
                infos[index]["terminal_observation"] = info["final_obs"][index]
        return observations, rewards, ended, infos

    def close(self) -> None:
        """Releases the servers."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns an attribute for each server.

        These are the attributes that :meth:`set_attr` has set, ``context`` (what a controller
        knows), ``action_masks``, and the attributes of the vector environment, the same for all.

        Raises:
            AttributeError: There is no such attribute.
        """
        return [self._attribute(attr_name, index) for index in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Notes a value for each server; it does not change the simulation."""
        for index in self._get_indices(indices):
            self._own[index][attr_name] = value

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Calls a method of each server; ``action_masks`` is evaluated for all at once."""
        if method_name == "action_masks":
            masks = self.env.action_masks()
            return [masks[index] for index in self._get_indices(indices)]
        methods: list[Callable[..., Any]] = self.get_attr(method_name, indices)
        return [method(*method_args, **kwargs) for method in methods]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Returns ``False`` for each server: single servers are never wrapped here."""
        return [False for _ in self._get_indices(indices)]

    def _attribute(self, name: str, index: int) -> Any:
        own = self._own[index]
        if name in own:
            return own[name]
        if name == "context":
            return self.env.contexts[index]
        if name == "action_masks":
            return partial(self._masks_of, index)
        if name == "render_mode":
            return None
        return getattr(self.env, name)

    def _masks_of(self, index: int) -> NDArray[np.bool_]:
        masks: NDArray[np.bool_] = self.env.action_masks()[index]
        return masks


def _values(info: dict[str, Any], key: str) -> NDArray[Any]:
    """Returns the array under a dotted key."""
    first, *fields = key.split(".")
    value: Any = info[first]
    for field in fields:
        value = value[field] if isinstance(value, dict) else getattr(value, field)
    return np.asarray(value)


def make_vec_env(
    num_envs: int = 1,
    *,
    seed: int | None = None,
    info_keys: Sequence[str] = (),
    **choices: Any,
) -> ServingVecEnv:
    """Builds simulated servers for Stable-Baselines3.

    Args:
        num_envs: Number of servers.
        seed: Server ``i`` is seeded with ``seed + i`` at the first reset; ``None`` draws.
        info_keys: See :class:`ServingVecEnv`.
        **choices: Arguments of :func:`envs.factory.make_simulated_vector`.
    """
    env = ServingVecEnv(
        make_simulated_vector(num_envs, **{**choices, "autoreset_mode": "same_step"}), info_keys
    )
    if seed is not None:
        env.seed(seed)
    return env
