"""What a run gives a controller before its episode: a profile, and a look ahead for oracles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from baselines.base import Outcome
from baselines.fixed_knobs import FixedKnobs
from baselines.profile import Profile
from envs.errors import ConfigurationError
from envs.knobs import Knobs
from envs.serving import ServingEnv
from experiments.app.environment import is_simulated, make_env
from experiments.evaluation.metrics import summarise
from experiments.evaluation.qos import add_reference
from experiments.evaluation.rollout import run_episode
from experiments.profiling.store import find_profile

OnProgress = Callable[[str, int, int], None]


class RunPreparation:
    """Implements :class:`baselines.base.Preparation` for one run.

    Args:
        config: The run's composed configuration, with its seed.
        reference: Baseline's output tokens per interval; ``None`` on a live server.
        on_progress: Called with what is being done, how much is done and how much there is.
    """

    def __init__(
        self,
        config: DictConfig,
        reference: NDArray[np.float64] | None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._config = config
        self._reference = reference
        self._on_progress = on_progress or (lambda what, done, total: None)

    def profile(self) -> Profile:
        """See :meth:`Preparation.profile`."""
        return find_profile(
            self._config, lambda done, total: self._on_progress("profile", done, total)
        )

    def evaluate(self, candidates: list[Knobs]) -> list[Outcome]:
        """See :meth:`Preparation.evaluate`.

        Raises:
            ConfigurationError: The server is live: nobody can look ahead there.
        """
        if not is_simulated(self._config) or self._reference is None:
            raise ConfigurationError(
                "controller: this one tries knobs on the coming episode, which only "
                "the simulator can do; use server=simulated or another controller"
            )
        env = make_env(self._config)
        outcomes = []
        for done, knobs in enumerate(candidates, start=1):
            outcomes.append(self._outcome(env, knobs, self._reference))
            self._on_progress("look ahead", done, len(candidates))
        env.close()
        return outcomes

    def _outcome(self, env: ServingEnv, knobs: Knobs, reference: NDArray[np.float64]) -> Outcome:
        held = FixedKnobs(knobs)
        held.bind(env.context)
        episode = run_episode(env, held, seed=self._config.seed, duration_s=self._config.duration)
        add_reference(episode.table, reference, env.context.qos, env.interval_s)
        metrics = summarise(episode, env.context)
        return Outcome(
            tokens_per_joule=metrics.tokens_per_joule or 0.0,
            qos_violation_rate=metrics.qos_violation_rate or 0.0,
            slo_violation_rate=metrics.slo_violation_rate or 0.0,
            budget_overshoot_rate=metrics.budget_overshoot_rate or 0.0,
        )
