"""The search for a plan: cross-entropy, begun at the plans that are good most of the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np

from baselines.twin.plans import FloatArray, IntArray, PlanSpace
from envs.fields import Checked, Range
from envs.quantities import Fraction, PositiveFraction

Evaluate = Callable[[IntArray], FloatArray]
"""Returns the cost of plans of shape ``(servers, plans, phases)``, shape ``(servers, plans)``."""


@dataclass(kw_only=True)
class Search(Checked):
    """How plans are searched for.

    The first generation holds the plan that is followed now, every constant one, and those that
    change the cap once, after the first phase. Each further generation is drawn from the best of
    all before it: for each phase the choice of one of them, or now and then any choice.

    Attributes:
        phases: Phases of a plan.
        candidates: Plans in each generation.
        generations: Generations.
        elite: Fraction of a generation that the next one is drawn from.
        mutation: Probability that a phase gets any choice.
        batches: How many of the highest batch limits a plan may choose from.
    """

    config_key: ClassVar[str] = "controller.search"

    phases: Annotated[int, Range(least=1, most=32)] = 3
    candidates: Annotated[int, Range(least=2, most=100_000)] = 64
    generations: Annotated[int, Range(least=1, most=100)] = 3
    elite: PositiveFraction = 0.15
    mutation: Fraction = 0.15
    batches: Annotated[int, Range(least=1, most=64)] = 6


class PlanSearch:
    """Searches for plans of several servers at once.

    Args:
        space: The plans there are.
        search: How to search.
    """

    def __init__(self, space: PlanSpace, search: Search) -> None:
        self._space = space
        self._search = search

    @cached_property
    def _usual(self) -> IntArray:
        """The plans that every first generation begins with, shape ``(plans, phases)``."""
        space = self._space
        constant = np.repeat(np.arange(len(space.choices))[:, None], space.phases, axis=1)
        once = [
            [now] + [later] * (space.phases - 1)
            for now in range(space.caps)
            for later in range(space.caps)
            if now != later and space.phases > 1
        ]
        return np.array([*constant[: space.caps].tolist(), *once, *constant[space.caps :].tolist()])

    def best(
        self, evaluate: Evaluate, current: IntArray, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray]:
        """Returns the best plan found for each server, and its cost.

        Args:
            evaluate: See :data:`Evaluate`.
            current: The plan that each server follows now, shape ``(servers, phases)``.
            rng: Source of the draws.
        """
        plans = self._first(current, rng)
        costs = evaluate(plans)
        for _ in range(self._search.generations - 1):
            fresh = self._next(plans, costs, rng)
            plans = np.concatenate([plans, fresh], axis=1)
            costs = np.concatenate([costs, evaluate(fresh)], axis=1)
        winner = costs.argmin(axis=1)
        servers = np.arange(len(plans))
        return plans[servers, winner], costs[servers, winner]

    def _first(self, current: IntArray, rng: np.random.Generator) -> IntArray:
        usual, size = self._usual, self._search.candidates - 1
        if len(usual) > size:
            # The constant caps, and of the others as many as there is room for.
            kept = min(self._space.caps, size)
            others = rng.choice(len(usual) - kept, size - kept, replace=False) + kept
            usual = np.concatenate([usual[:kept], usual[others]])
        servers, phases = current.shape
        shared = np.broadcast_to(usual, (servers, len(usual), phases))
        missing = size - len(usual)
        drawn = rng.integers(len(self._space.choices), size=(servers, missing, phases))
        return np.concatenate([current[:, None], shared, drawn], axis=1)

    def _next(self, plans: IntArray, costs: FloatArray, rng: np.random.Generator) -> IntArray:
        search = self._search
        servers, _, phases = plans.shape
        count = max(2, round(search.elite * search.candidates))
        best = np.argsort(costs, axis=1, kind="stable")[:, :count]
        elite = np.take_along_axis(plans, best[..., None], axis=1)
        shape = (servers, search.candidates, phases)
        # Half of them cross all phases freely, half keep one of the best but for mutations.
        parent = rng.integers(elite.shape[1], size=shape)
        half = search.candidates // 2
        parent[:, :half] = parent[:, :half, :1]
        drawn = np.take_along_axis(elite, parent, axis=1)
        any_choice = rng.integers(len(self._space.choices), size=shape)
        return np.where(rng.random(shape) < search.mutation, any_choice, drawn)
