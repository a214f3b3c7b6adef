"""What a run gives a controller before its episode: a profile, and a look ahead for oracles."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.base import Controller, Outcome, Preparation
from baselines.fixed_knobs import FixedKnobs
from baselines.profile import Profile
from baselines.twin.future import Future
from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import build_server_spec, make_env
from envs.knobs import Knobs
from envs.live.config import VllmServerConfig
from envs.live.counted_lengths import counted
from envs.scenario import Scenario
from envs.serving import ServingEnv
from envs.simulator.server_spec import ServerSpec
from envs.workloads.external import External
from experiments.evaluation.baseline import evaluated, outcome, reference_tokens
from experiments.evaluation.future import future_of
from experiments.evaluation.rollout import run_episode
from experiments.profiling.store import find_profile
from experiments.runs.options import RunOptions
from experiments.sim_to_live.counterpart import counterpart

_LOG = logging.getLogger(__name__)
OnProgress = Callable[[str, int, int], None]


class RunPreparation(Preparation):
    """What a controller may request before one run.

    Args:
        scenario: What is controlled.
        options: How it is run.
        reference: Baseline's output tokens per interval; ``None`` on a live server.
        on_progress: Called with what is being done, how much is done and how much there is.
    """

    def __init__(
        self,
        scenario: Scenario,
        options: RunOptions,
        reference: NDArray[np.float64] | None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._scenario = scenario
        self._options = options
        self._reference = reference
        self._on_progress = on_progress or (lambda what, done, total: None)

    @override
    def profile(self) -> Profile:
        return find_profile(
            self._scenario,
            self._options.profile,
            lambda done, total: self._on_progress("profile", done, total),
        )

    @override
    def evaluate(self, candidates: list[Knobs]) -> list[Outcome]:
        """Runs fixed knobs on the coming episode, one after the other.

        Raises:
            ConfigurationError: The server is live, so that its future is unknown.
        """
        if not self._scenario.is_simulated or self._reference is None:
            raise ConfigurationError(
                "controller: this one tries knobs on the coming episode, which only "
                "the simulator can do; use server=simulated or another controller"
            )
        env = make_env(self._scenario)
        outcomes = []
        for done, knobs in enumerate(candidates, start=1):
            outcomes.append(self._outcome(env, knobs, self._reference))
            self._on_progress("look ahead", done, len(candidates))
        env.close()
        return outcomes

    @override
    def futures(self) -> list[Future]:
        env = make_env(self._scenario)
        try:
            return [future_of(env, self._options.seed)]
        finally:
            env.close()

    @override
    def twin(self) -> ServerSpec:
        """Returns a simulated server like the scenario's.

        A live one needs a profile for that, which calibrates its counterpart. Of the traffic of
        others it is expected to have the lengths that the server has counted.
        """
        scenario = self._scenario
        if not scenario.is_simulated:
            workload, server = catalog.build("workload", scenario.workload), scenario.server_config
            if isinstance(workload, External) and isinstance(server, VllmServerConfig):
                scenario = replace(scenario, workload=counted(workload, server))
            _, scenario = counterpart(scenario, self.profile())
        spec = build_server_spec(scenario)
        if not self._scenario.is_simulated:
            _LOG.info(
                "the twin of the live server has model=%s and gpu=%s; is that what it serves, and "
                "on what?", spec.model.name, spec.gpu.name,
            )  # fmt: skip
        return spec

    def _outcome(self, env: ServingEnv, knobs: Knobs, reference: NDArray[np.float64]) -> Outcome:
        held = FixedKnobs(knobs)
        held.bind(env.context)
        episode = run_episode(
            env, held, seed=self._options.seed, duration_s=self._scenario.duration_s
        )
        return outcome(evaluated(episode, reference, env))


def prepared_controller(
    env: ServingEnv, scenario: Scenario, options: RunOptions, on_progress: OnProgress
) -> tuple[Controller, NDArray[np.float64] | None]:
    """Returns a run's controller, ready for its episode, and Baseline's output tokens.

    Args:
        env: The environment of the scenario.
        scenario: What is controlled.
        options: Who controls it.
        on_progress: Called with what is being done, how much is done and how much there is.
    """
    controller = options.new_controller()
    reference = reference_tokens(scenario, options.seed)
    controller.bind(env.context)
    controller.prepare(RunPreparation(scenario, options, reference, on_progress))
    return controller, reference
