"""Simulated servers under planners, without the experiments around them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from baselines.static import Static
from baselines.twin.correction import Correction, CorrectionConfig
from envs import catalog
from envs.factory import build_server_spec, make_env
from envs.objectives.qos import violation_reference
from envs.scenario import Scenario
from envs.serving import ServingEnv
from experiments.evaluation.future import future_of

SMALL_SEARCH = {"candidates": 24, "generations": 2}


@pytest.fixture(autouse=True)
def _own_cache() -> None:
    """Leaves the cache as it is: nothing here depends on it, and compiled code lies in it."""


class EnvPreparation:
    """What a run would give a planner."""

    def __init__(
        self, env: ServingEnv, scenario: Scenario, seeds: list[int], faster: float
    ) -> None:
        self._env, self._scenario, self._seeds, self._faster = env, scenario, seeds, faster

    def futures(self) -> Any:
        return [future_of(self._env, seed) for seed in self._seeds]

    def twin(self) -> Any:
        spec = build_server_spec(self._scenario)
        wrong = Correction(CorrectionConfig())
        wrong.log_time = -math.log(self._faster)
        wrong.apply(spec.spec.step_model.copy(), spec.spec.step_model)
        return spec


@pytest.fixture
def prepared_env() -> Callable[..., tuple[ServingEnv, Any]]:
    """Returns a function that builds an environment and a planner that is prepared for it."""

    def build(
        controller: Any,
        *,
        seed: int = 3,
        twin: Scenario | None = None,
        faster: float = 1.0,
        **parts: Any,
    ) -> tuple[ServingEnv, Any]:
        scenario = Scenario(**{"duration_s": 60.0, **parts})
        env = make_env(scenario)
        chosen = catalog.build("controller", controller)
        chosen.bind(env.context)
        chosen.prepare(EnvPreparation(env, twin or scenario, [seed], faster))
        return env, chosen

    return build


def run(env: ServingEnv, controller: Any, seed: int = 3, intervals: int = 120) -> Any:
    """Lets a controller run an episode; returns what each step told, and the final state."""
    observation, _ = env.reset(seed=seed)
    state, infos = None, []
    for interval in range(intervals):
        action, state = controller.predict(observation, state, np.array([interval == 0]))
        observation, _, _, _, info = env.step(action)
        infos.append(info)
    return infos, state


@pytest.fixture(name="run")
def _run() -> Callable[..., Any]:
    """See :func:`run`."""
    return run


def beside_baseline(env: ServingEnv, controller: Any, intervals: int) -> Any:
    """Runs an episode, and Baseline on it.

    Returns:
        What each step told of both, and for each interval after the first window whether
        throughput was below the target and Baseline's.
    """
    static = Static()
    static.bind(env.context)
    own, held = (run(env, one, intervals=intervals)[0] for one in (controller, static))
    qos = env.context.qos
    violated = [
        violation_reference(
            one["throughput_tok_s"], one["conditions"].target_tok_s, beside["throughput_tok_s"],
            qos.tolerance,
        )
        for one, beside in zip(own, held, strict=True)
    ]  # fmt: skip
    return own, held, violated[round(qos.window_s / env.context.interval_s) :]


@pytest.fixture(name="beside_baseline")
def _beside_baseline() -> Callable[..., Any]:
    """See :func:`beside_baseline`."""
    return beside_baseline


@pytest.fixture
def small_search() -> dict[str, int]:
    return dict(SMALL_SEARCH)
