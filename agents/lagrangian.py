"""Constrained training for any Stable-Baselines3 algorithm: priced costs in the reward.

A :class:`PricedVecEnv` subtracts each cost times its price from the reward; a
:class:`PriceUpdates` callback moves the prices so that each cost's rate ends at its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnvWrapper
from typing_extensions import override

from agents.constraints import Constraint, Price, Servers
from agents.vec_env import ServingVecEnv
from envs.errors import ConfigurationError

if TYPE_CHECKING:
    from agents.asked import Asked

_QOS, _SWITCHING = "qos", "switching"
"""The constraints that what is asked for stands for."""


class PricedVecEnv(VecEnvWrapper):
    """Rewards minus priced costs, divided by one plus the prices (so that they stay in scale).

    A constraint that is ``separate`` has a price for each group of servers, named
    ``constraint/group``; otherwise one price, named after it, holds for all.

    Args:
        venv: The servers.
        constraints: Constraints by name; without any the reward stays as it is.
        groups: Name of each server's group; ``None`` for a single group.
        asked: Violation limits that servers are asked for in turn (:mod:`agents.asked`): the
            constraint ``qos`` then has a limit and a price for each, and moves of the knobs cost
            what is asked. ``None`` for the constraints' own limits.

    Attributes:
        prices: The price in force of each cost.
    """

    def __init__(
        self,
        venv: ServingVecEnv,
        constraints: dict[str, Constraint],
        groups: Sequence[str] | None = None,
        asked: Asked | None = None,
    ) -> None:
        super().__init__(venv)
        self.constraints = constraints
        self._servers = venv
        self._facts = Servers(venv.env.contexts)
        self._keys: dict[str, list[str]] = {}
        self._members: dict[str, NDArray[np.int64]] = {}
        for name, constraint in constraints.items():
            own = [name] * venv.num_envs
            if constraint.separate and groups is not None:
                own = [f"{name}/{group}" for group in groups]
            keys, self._members[name] = np.unique(own, return_inverse=True)
            self._keys[name] = keys.tolist()
        self.prices: dict[str, Price] = {
            key: constraints[name].start() for name, keys in self._keys.items() for key in keys
        }
        self._limits: dict[str, float] = {}
        self._switch_prices: NDArray[np.float64] | None = None
        if asked is not None:
            self._have_asked(asked)
        self._sums = {name: np.zeros((2, len(keys))) for name, keys in self._keys.items()}
        self._reward_sum, self._rewards = 0.0, 0

    def _have_asked(self, asked: Asked) -> None:
        constraint = self.constraints.get(_QOS)
        if constraint is None:
            raise ConfigurationError(f"asked: needs the constraint {_QOS!r}, whose limit it draws")
        keys = [f"{_QOS}/{group}" for group in asked.groups]
        for key in self._keys[_QOS]:
            del self.prices[key]
        self._keys[_QOS] = keys
        self._limits = dict(zip(keys, asked.limits, strict=True))
        for key, price in zip(keys, asked.prices, strict=True):
            self.prices[key] = constraint.start(price)

    def ask(self, level: NDArray[np.int64], switch_prices: NDArray[np.float64]) -> None:
        """Says what each server is asked for from now on.

        Args:
            level: Index of its violation limit.
            switch_prices: Its price of an interval in which a knob moves.
        """
        self._members[_QOS] = level
        self._switch_prices = switch_prices

    @override
    def reset(self) -> Any:
        return self.venv.reset()

    @override
    def step_wait(self) -> Any:
        observations, rewards, ended, infos = self._servers.step_wait()
        self._reward_sum += float(rewards.sum())
        self._rewards += len(rewards)
        priced: NDArray[np.float64] = rewards
        total: Any = 1.0
        for name, constraint in self.constraints.items():
            cost = constraint.cost(observations, self._servers.vector_info, self._facts)
            keys, members = self._keys[name], self._members[name]
            for row, values in zip(self._sums[name], cost, strict=True):
                row += np.bincount(members, weights=values, minlength=len(keys))
            price = np.array([self.prices[key].value for key in keys])[members]
            if name == _SWITCHING and self._switch_prices is not None:
                price = self._switch_prices
            priced = priced - price * cost.amount
            total = total + price
        return observations, priced / total, ended, infos

    @property
    def accumulated(self) -> dict[str, Any]:
        """What has been summed up since the last update of the prices, as plain values."""
        sums = {name: values.tolist() for name, values in self._sums.items()}
        return {"sums": sums, "reward_sum": self._reward_sum, "rewards": self._rewards}

    def go_on(self, accumulated: dict[str, Any]) -> None:
        """Takes over what another one of the same constraints had :attr:`accumulated`."""
        self._sums = {name: np.array(values) for name, values in accumulated["sums"].items()}
        self._reward_sum, self._rewards = accumulated["reward_sum"], accumulated["rewards"]

    def constraint_of(self, key: str) -> Constraint:
        """Returns the constraint that a price belongs to."""
        return self.constraints[key.partition("/")[0]]

    def limit_of(self, key: str) -> float | None:
        """Returns the limit that a price's servers are asked for; ``None``: the constraint's."""
        return self._limits.get(key)

    def is_asked_price(self, key: str) -> bool:
        """Returns whether a price is what servers are asked for, and so does not move."""
        return key == _SWITCHING and self._switch_prices is not None

    def take_rates(self) -> dict[str, float]:
        """Returns each cost's mean rate since the last call, without those never evaluated."""
        rates = {}
        for name, sums in self._sums.items():
            for key, (amount, evaluated) in zip(self._keys[name], sums.T.tolist(), strict=True):
                if evaluated:
                    rates[key] = amount / evaluated
            sums[:] = 0.0
        return rates

    def take_reward(self) -> float:
        """Returns the mean unpriced reward per interval since the last call."""
        mean = self._reward_sum / max(1, self._rewards)
        self._reward_sum, self._rewards = 0.0, 0
        return mean


class PriceUpdates(BaseCallback):
    """Moves the prices after each ``every`` steps and logs rates and prices.

    Args:
        env: The environment whose prices are moved.
        every: Steps (of all servers together) between two updates.

    Attributes:
        due: Steps at which the next update is due.
    """

    def __init__(self, env: PricedVecEnv, every: int) -> None:
        super().__init__()
        self._env = env
        self._every = every
        self.due = every

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.due:
            self.due += self._every
            self.update()
        return True

    def update(self) -> None:
        """Moves every price whose cost was evaluated since the last update."""
        env = self._env
        progress = 1.0 - self.model._current_progress_remaining
        for name, rate in env.take_rates().items():
            constraint = env.constraint_of(name)
            self.logger.record(f"constraints/{name}_rate", rate)
            if env.is_asked_price(name):
                continue
            limit = env.limit_of(name)
            if limit is None:
                limit = constraint.limit_at(progress)
            env.prices[name] = constraint.update(env.prices[name], rate, limit)
            self.logger.record(f"constraints/{name}_limit", limit)
            self.logger.record(f"constraints/{name}_price", env.prices[name].value)
        self.logger.record("rollout/reward_mean", env.take_reward())
