"""Wrappers around the environments, for agents and libraries with habits of their own.

Controllers of this project decode observations by their layout and take the environment as it is;
these wrappers are for agents.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray
from typing_extensions import override

from envs.arguments import expect, expect_whole
from envs.errors import ConfigurationError
from envs.observations import Observation

KNOB_ENTRIES = ("power_cap_w", "max_num_seqs", "last_power_cap_w", "last_max_num_seqs")
"""Entries of an observation that say how the knobs stand and what was asked for."""
_Array = NDArray[np.float32]


class UnitObservation(gym.ObservationWrapper[_Array, Any, _Array], RecordConstructorArgs):
    """Scales every entry of the observation to -1 to 1, by the fixed bounds of its space.

    Nothing is estimated from what was seen, so that a policy means the same at any time.

    Args:
        env: An environment whose observations are a bounded box.

    Raises:
        ConfigurationError: The observations have no bounds.
    """

    def __init__(self, env: gym.Env[_Array, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        expect("UnitObservation: env", env, gym.Env)
        super().__init__(env)
        space = _box(env)
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ConfigurationError("UnitObservation: the observation space has no bounds")
        self._low, self._span = space.low, (space.high - space.low) / 2.0
        self.observation_space = gym.spaces.Box(-1.0, 1.0, space.shape, dtype=np.float32)

    @override
    def observation(self, observation: _Array) -> _Array:
        scaled: _Array = ((observation - self._low) / self._span - 1.0).astype(np.float32)
        return np.clip(scaled, -1.0, 1.0)


class StackKnobs(gym.Wrapper[_Array, Any, _Array, Any], RecordConstructorArgs):
    """Appends how the knobs stood in the intervals before, the latest first.

    A lowered batch limit drains and a cap settles slowly: an agent without memory sees it here.
    After a reset there is no past; the first observation stands for it.

    Args:
        env: An environment of one server, unwrapped or with wrappers that keep the entries' places.
        intervals: How many intervals of the past are appended.

    Raises:
        ConfigurationError: There is no such number of intervals, or the observations are not those
            of one server.
    """

    def __init__(self, env: gym.Env[_Array, Any], intervals: int = 4) -> None:
        RecordConstructorArgs.__init__(self, intervals=intervals)
        expect("StackKnobs: env", env, gym.Env)
        expect_whole("StackKnobs: intervals", intervals, 1)
        super().__init__(env)
        space = _box(env)
        if space.shape != (len(Observation._fields),):
            raise ConfigurationError(
                f"StackKnobs: needs the {len(Observation._fields)} entries of one server's "
                f"observation, got the shape {space.shape}"
            )
        self._places = [Observation._fields.index(name) for name in KNOB_ENTRIES]
        self._past: deque[_Array] = deque(maxlen=intervals)
        low, high = (
            np.concatenate([bound, np.tile(bound[self._places], intervals)])
            for bound in (space.low, space.high)
        )
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[_Array, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._past.extend([observation[self._places]] * (self._past.maxlen or 1))
        return np.concatenate([observation, *self._past]), info

    @override
    def step(self, action: Any) -> tuple[_Array, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        stacked = np.concatenate([observation, *self._past])
        self._past.appendleft(observation[self._places])
        return stacked, reward, terminated, truncated, info


class FlatCost:
    """Gives the cost beside the reward, as OmniSafe and Safety-Gymnasium do.

    ``step`` returns ``(observation, reward, cost, terminated, truncated, info)``. That is not
    Gymnasium's signature, so this is no :class:`gymnasium.Wrapper`, and goes outermost.

    Args:
        env: An environment whose ``info`` has ``cost``.

    Attributes:
        env: The environment.
        observation_space: Its observations.
        action_space: Its actions.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        expect("FlatCost: env", env, gym.Env)
        self.env = env
        self.observation_space = env.observation_space
        self.action_space = env.action_space

    @property
    def unwrapped(self) -> gym.Env[Any, Any]:
        """The environment below all wrappers."""
        return self.env.unwrapped

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; see :meth:`gymnasium.Env.reset`."""
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, float, bool, bool, dict[str, Any]]:
        """Lets one interval pass.

        Returns:
            Observation, reward, cost, whether the episode terminated, whether it was truncated,
            and ``info``.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), float(info["cost"]), terminated, truncated, info

    def render(self) -> Any:
        """Returns a frame; see :meth:`gymnasium.Env.render`."""
        return self.env.render()

    def close(self) -> None:
        """Releases the environment."""
        self.env.close()


def _box(env: gym.Env[Any, Any]) -> gym.spaces.Box:
    space = env.observation_space
    if not isinstance(space, gym.spaces.Box):
        raise ConfigurationError(f"wrapper: needs observations in a box, not {space}")
    return space
