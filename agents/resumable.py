"""Servers that can be brought back to the state in which a checkpoint of a training was written.

An episode is what its seeds and actions make it. So a checkpoint holds the random generators as
they were before the episodes began, and the actions since; the servers are brought back by taking
those actions again, which needs no copy of the simulator's memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from agents.memory import Memory, Past, Remembering
from agents.vec_env import ServingVecEnv
from envs.errors import ConfigurationError
from envs.simulator.vector import VectorServingEnv


class EpisodeSoFar(NamedTuple):
    """What brings servers back into the middle of an episode.

    Attributes:
        generators: State of each server's generator before its episode began.
        seeds: Seed that each server was then given; ``None`` for going on with its generator.
        actions: Actions since, shape ``(steps, num_envs, ...)``.
    """

    generators: list[dict[str, Any]]
    seeds: list[int | None]
    actions: NDArray[Any]

    @property
    def begin(self) -> str:
        """Generators and seeds as text."""
        return json.dumps([self.generators, self.seeds])

    @classmethod
    def of(cls, begin: str, actions: NDArray[Any]) -> EpisodeSoFar:
        """Returns what :attr:`begin` and :attr:`actions` were taken from."""
        generators, seeds = json.loads(begin)
        return cls(generators, seeds, actions)


class ResumableVecEnv(ServingVecEnv):
    """Servers whose episodes begin and end together, and can be brought back into one.

    Args:
        env: See :class:`~agents.vec_env.ServingVecEnv`.
        info_keys: See there.
        memory: What of the past stands behind the servers' own observations. What has been seen
            since an episode began comes back with it.
    """

    def __init__(
        self, env: VectorServingEnv, info_keys: Sequence[str] = (), memory: Memory | None = None
    ) -> None:
        super().__init__(env, info_keys)
        own = memory or Memory()
        layout = env.contexts[0].layout
        self._remembering = Remembering(own, layout, env.interval_s)
        self._past: Past | None = None
        self.observation_space = own.space(layout)
        self._generators = self._states()
        self._given: list[int | None] = [None] * env.num_envs
        self._after_start = self._generators
        self._taken: list[NDArray[Any]] = []

    @override
    def reset(self) -> NDArray[np.float32]:
        generators, seeds = self._states(), list(self._seeds)
        observations, self._past = self._remembering.after(super().reset(), None)
        self._begin(generators, seeds)
        return observations

    @override
    def step_wait(self) -> Any:
        own, rewards, ended, infos = super().step_wait()
        if ended.any():  # nothing but the start of an episode draws from the generators
            self._begin(self._after_start, [None] * self.num_envs)
            last = np.stack([info["terminal_observation"] for info in infos])
            for info, entries in zip(
                infos, self._remembering.after(last, self._past)[0], strict=True
            ):
                info["terminal_observation"] = entries
            self._past = None
        else:
            self._taken.append(np.array(self._actions))
        observations, self._past = self._remembering.after(own, self._past)
        return observations, rewards, ended, infos

    @property
    def episode(self) -> EpisodeSoFar:
        """What brings the servers back to where they are."""
        shape = (0, self.num_envs, *(self.action_space.shape or ()))
        actions = np.stack(self._taken) if self._taken else np.empty(shape)
        return EpisodeSoFar(self._generators, self._given, actions)

    def bring_back(self, episode: EpisodeSoFar) -> NDArray[np.float32]:
        """Brings the servers into the middle of an episode; returns their observations."""
        count = len(episode.generators)
        if count != self.num_envs:
            raise ConfigurationError(
                f"the checkpoint is of {count} servers, and {self.num_envs} are configured; set "
                "the mixture's servers as they were"
            )
        for generator, state in zip(self.env.generators, episode.generators, strict=True):
            generator.bit_generator.state = state
        self._seeds = list(episode.seeds)
        observations = self.reset()
        for actions in episode.actions:
            self.step_async(actions)
            observations = self.step_wait()[0]
        return observations

    def _begin(self, generators: list[dict[str, Any]], seeds: list[int | None]) -> None:
        self._generators, self._given = generators, seeds
        self._after_start = self._states()
        self._taken = []

    def _states(self) -> list[dict[str, Any]]:
        return [dict(generator.bit_generator.state) for generator in self.env.generators]
