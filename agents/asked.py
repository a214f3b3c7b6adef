"""What an agent is asked for at run time: a violation limit, and the price of moving a knob.

In training both are drawn for each server and episode and stand behind the server's own entries
of the observation, so that one policy learns a whole front. Each limit has a price of violations
of its own (:mod:`agents.lagrangian`), which its servers move together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from typing_extensions import override

from agents.compatibility import described_scales
from agents.lagrangian import PricedVecEnv
from envs.fields import Checked
from envs.observations import Scale
from envs.quantities import Gain, PositiveFraction

VIOLATION_LIMIT, SWITCH_PRICE = "violation_limit", "switch_price"
SCALES: Mapping[str, Scale] = {
    VIOLATION_LIMIT: Scale(0.005, logarithmic=True, top=0.1),
    SWITCH_PRICE: Scale(0.02, logarithmic=True, top=0.5),
}
"""The entries of an observation that an operator sets, in their order, and their scales."""


@dataclass(kw_only=True)
class Asked(Checked):
    """What is asked for in training (``conf/train.yaml``).

    Attributes:
        limits: Violation limits; each is asked of an equal part of the servers.
        prices: Price of a violation at the start, for each limit.
        switch_prices: Prices of an interval in which a knob moves, drawn evenly.
        tilt: Strength of the inclination that a policy begins with where the training starts from
            a bundle that was asked for nothing (:func:`agents.start.tilt`); 0 for none.
        evaluated: Limits at which a policy in training is evaluated; the first one counts.
        switch_price: The switch price at which it is evaluated.
    """

    config_key: ClassVar[str] = "asked"

    limits: list[PositiveFraction] = field(
        default_factory=lambda: [0.005, 0.01, 0.02, 0.035, 0.06, 0.1]
    )
    prices: list[Gain] = field(default_factory=lambda: [6.0, 5.0, 3.5, 2.0, 0.7, 0.1])
    switch_prices: list[Gain] = field(default_factory=lambda: [0.0, 0.05, 0.2])
    tilt: Gain = 5.0
    evaluated: list[PositiveFraction] = field(default_factory=lambda: [0.02, 0.005, 0.05])
    switch_price: Gain = 0.05

    def __post_init__(self) -> None:
        """Checks that each limit has a price."""
        super().__post_init__()
        self.require(len(self.limits) > 1, "limits", "hold two limits or more")
        self.require(len(self.prices) == len(self.limits), "prices", "hold one for each limit")
        self.require(len(self.switch_prices) > 0, "switch_prices", "hold at least one price")
        self.require(len(self.evaluated) > 0, "evaluated", "hold at least one limit")

    @property
    def groups(self) -> list[str]:
        """Name of each limit, as prices are logged."""
        return [f"{limit:g}" for limit in self.limits]


def described() -> list[dict[str, Any]]:
    """Returns the meaning of the asked entries, as bundles write it down."""
    return described_scales(SCALES)


def with_asked(
    observation: NDArray[np.floating[Any]], limits: Any, switch_prices: Any
) -> NDArray[np.float32]:
    """Puts what is asked for behind an observation, or a batch with a leading axis.

    Args:
        observation: Encoded observation.
        limits: Violation limit, or one for each server.
        switch_prices: Switch price, or one for each server.
    """
    seen = np.asarray(observation, dtype=np.float32)
    entries = [
        np.broadcast_to(scale.encoded(values), seen.shape[:-1])[..., None]
        for scale, values in zip(SCALES.values(), (limits, switch_prices), strict=True)
    ]
    return np.concatenate([seen, *entries], axis=-1)


def dealt(count: int, families: Sequence[str], rng: np.random.Generator) -> NDArray[np.int64]:
    """Deals what can be asked for to servers, evenly within each family of scenarios.

    Args:
        count: How many limits there are.
        families: Name of each server's family.
        rng: Source of the draws.

    Returns:
        Index of each server's limit.
    """
    own = np.unique(list(families), return_inverse=True)[1]
    level = np.empty(len(own), dtype=np.int64)
    for family in np.unique(own):
        members = np.flatnonzero(own == family)
        cards = (np.arange(len(members)) + rng.integers(count)) % count
        level[members] = rng.permutation(cards)
    return level


class AskedPolicy:
    """A conditioned policy that is asked for the same on every server.

    Args:
        policy: A policy whose observations end with what is asked for.
        limit: Violation limit.
        switch_price: Price of an interval in which a knob moves.
    """

    def __init__(self, policy: Any, limit: float, switch_price: float) -> None:
        self._policy, self._limit, self._switch_price = policy, limit, switch_price

    def predict(
        self,
        observation: NDArray[np.floating[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Returns an action and the policy's next state; see :class:`baselines.base.Policy`."""
        seen = with_asked(observation, self._limit, self._switch_price)
        found: tuple[Any, Any] = self._policy.predict(seen, state, episode_start, deterministic)
        return found


class AskedVecEnv(VecEnvWrapper):
    """Draws what each server is asked for, shows it to the policy, and has it priced.

    Limits are dealt within each family of scenarios, so that every limit is asked for in each of
    them. The servers' episodes begin and end together; new ones are dealt at each beginning.

    Args:
        venv: The servers; their rewards come from ``priced``.
        priced: Where costs are priced.
        asked: What may be asked for.
        families: Name of each server's family of scenarios.
        seed: Seed of the draws.

    Attributes:
        dealt: How often has been dealt; a resumed training goes on from it.
    """

    def __init__(
        self, venv: VecEnv, priced: PricedVecEnv, asked: Asked, families: Sequence[str], seed: int
    ) -> None:
        space = venv.observation_space
        assert isinstance(space, gym.spaces.Box)
        high = np.concatenate(
            [space.high, np.array([scale.high for scale in SCALES.values()], np.float32)]
        )
        super().__init__(venv, gym.spaces.Box(np.zeros_like(high), high, dtype=np.float32))
        self._priced, self._asked, self._seed = priced, asked, seed
        self._families = list(families)
        self.dealt = 0
        self.deal()

    def deal(self) -> None:
        """Deals limits and switch prices; what comes out depends on seed and number alone."""
        rng = np.random.default_rng([self._seed, self.dealt])
        self.dealt += 1
        level = dealt(len(self._asked.limits), self._families, rng)
        self._limits = np.array(self._asked.limits)[level]
        self._switch_prices = rng.choice(np.array(self._asked.switch_prices), self.num_envs)
        self._priced.ask(level, self._switch_prices)

    def go_on(self, dealt: int) -> None:
        """Deals what was dealt last when it had been dealt that often."""
        self.dealt = dealt - 1
        self.deal()

    def seen(self, observations: Any) -> NDArray[np.float32]:
        """Returns the servers' observations with what they are asked for."""
        return with_asked(observations, self._limits, self._switch_prices)

    @override
    def reset(self) -> Any:
        return self.seen(self.venv.reset())

    @override
    def step_wait(self) -> Any:
        observations, rewards, ended, infos = self.venv.step_wait()
        if ended.any():
            assert ended.all()
            for index, info in enumerate(infos):
                last = info["terminal_observation"]
                info["terminal_observation"] = with_asked(
                    last, self._limits[index], self._switch_prices[index]
                )
            self.deal()
        return self.seen(observations), rewards, ended, infos
