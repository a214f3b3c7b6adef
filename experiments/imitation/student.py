"""A student: a policy that is taught by what its actions cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from agents.asked import SCALES, SWITCH_PRICE, VIOLATION_LIMIT
from envs.fields import Checked, Range
from envs.quantities import Gain, Positive
from experiments.imitation.lessons import Costs, Lessons


@dataclass(kw_only=True)
class Study(Checked):
    """How a student learns from the lessons that it has.

    Attributes:
        updates: Steps of the optimiser in each round.
        batch: States in each step.
        learning_rate: Step size at the start; it falls linearly to a tenth.
        entropy: Weight of the policy's entropy, in the unit of costs. It keeps preferences from
            saturating before there are lessons enough, and does not change which action is best:
            the best policy prefers actions by their mean cost over this weight.
        most_cost: Cost above the best action's at which an action is as bad as can be.
    """

    config_key: ClassVar[str] = "study"

    updates: Annotated[int, Range(least=1, most=1_000_000)] = 3000
    batch: Annotated[int, Range(least=1, most=1_000_000)] = 1024
    learning_rate: Positive = 2e-3
    entropy: Gain = 0.3
    most_cost: Positive = 3.0


class Student:
    """A policy, and the optimiser that teaches it.

    It minimises what its action costs on average, as the price of its limit and of switching
    has it (AggreVaTe; Ross and Bagnell, 2014). That is not the imitation of the best plan: where
    the future is open, what is best on average need not be best in any of the futures.

    Args:
        policy: The policy; its observations end with what is asked for.
        costs: Costs of its actions.
        study: How it learns.
        limits: Violation limits it is taught for.
        switch_prices: Switch prices it is taught for.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        costs: Costs,
        study: Study,
        limits: Sequence[float],
        switch_prices: Sequence[float],
    ) -> None:
        self.policy = policy
        self._costs, self._study = costs, study
        actor = [*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()]
        self.optimizer = torch.optim.Adam(actor, lr=study.learning_rate, fused=True)
        self._limits = _encoded(VIOLATION_LIMIT, limits)
        self._switch_prices = torch.tensor(list(switch_prices), dtype=torch.float32)
        self._shown_prices = _encoded(SWITCH_PRICE, switch_prices)

    def learn(
        self,
        lessons: Lessons,
        prices: NDArray[np.float64],
        progress: float,
        rng: torch.Generator,
    ) -> float:
        """Learns from all lessons so far.

        Args:
            lessons: The lessons.
            prices: Price of a violation under each limit on each server, shape ``(limits,
                servers)``.
            progress: Fraction of all rounds that are done.
            rng: Source of the draws.

        Returns:
            What its actions cost beyond the best ones, on average over the last quarter.
        """
        study = self._study
        for group in self.optimizer.param_groups:
            group["lr"] = study.learning_rate * (1.0 - 0.9 * progress)
        price = torch.from_numpy(prices.astype(np.float32))
        self.policy.set_training_mode(True)
        costs = []
        for update in range(study.updates):
            loss, cost = self._loss(lessons, price, rng)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            if update >= study.updates - max(1, study.updates // 4):
                costs.append(float(cost))
        self.policy.set_training_mode(False)
        return float(np.mean(costs))

    def _loss(self, lessons: Lessons, price: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns the loss on some states, and what the policy costs there."""
        count = self._study.batch
        rows = torch.randint(len(lessons.observations), (count,), generator=rng)
        limit = torch.randint(len(self._limits), (count,), generator=rng)
        switch = torch.randint(len(self._switch_prices), (count,), generator=rng)
        drawn = Lessons(*(column[rows] for column in lessons))
        asked = torch.stack([self._limits[limit], self._shown_prices[switch]], dim=-1)
        seen = torch.cat([drawn.observations.float(), asked], dim=-1)
        own = price[limit, drawn.server]
        above = self._costs.above_best(drawn, own, self._switch_prices[switch])
        logits = self.policy.action_net(self.policy.mlp_extractor.forward_actor(seen))
        parts = [part.log_softmax(-1) for part in logits.split(self._costs.sizes, dim=1)]
        expected = above
        for part in reversed(parts):  # each knob is drawn by itself
            expected = torch.einsum("n...k,nk->n...", expected, part.exp())
        cost = expected.mean()
        entropy = -sum((part.exp() * part).sum(-1).mean() for part in parts)
        return cost - self._study.entropy * entropy, cost.detach()


def _encoded(name: str, values: Sequence[float]) -> Tensor:
    """Returns values that are asked for as a policy sees them."""
    return torch.from_numpy(np.atleast_1d(SCALES[name].encoded(list(values))))
