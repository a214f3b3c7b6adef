"""The twin as a controller: it sees observations only, keeps budgets, learns, and is repeatable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from baselines.static import Static
from envs import catalog
from envs.errors import ConfigurationError
from envs.scenario import Scenario


def mpc(small_search: dict[str, int], **keys: Any) -> dict[str, Any]:
    return {"base": "mpc", "search": small_search, "samples": 3, **keys}


def total(infos: Any, name: str) -> float:
    return sum(getattr(info["telemetry"], name) for info in infos)


def test_it_saves_energy_and_keeps_up_with_baseline(
    prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    env, controller = prepared_env(mpc(small_search))
    planned, _ = run(env, controller)
    static = Static()
    static.bind(env.context)
    held, _ = run(env, static)
    assert total(planned, "energy_gpu_j") < 0.9 * total(held, "energy_gpu_j")
    assert total(planned, "output_tokens") > 0.96 * total(held, "output_tokens")


@pytest.mark.parametrize("action", ["grid", "joint", "continuous"])
@pytest.mark.parametrize("scope", ["gpu", "system"])
def test_the_budget_is_kept(
    action: str, scope: str, prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    steps = {"levels": [1.0, 0.6, 0.8], "every_s": 4.0}
    objective = {
        "base": "power_budget", "power_scope": scope,
        "power_budget": {"_target_": "envs.objectives.signals.Steps", **steps},
    }  # fmt: skip
    env, controller = prepared_env(
        mpc(small_search, replan_s=3.0), objective=objective, action=action,
        workload={"base": "poisson_gsm8k", "load": 1.1},
    )  # fmt: skip
    infos, _ = run(env, controller, intervals=30)
    alpha, beta_w = (1.0, 0.0) if scope == "gpu" else env.context.system_power
    for info in infos:
        drawn = alpha * 4 * info["knobs"].power_cap_w + beta_w
        assert drawn <= info["conditions"].power_budget_w * 1.0003


def test_the_same_run_twice(prepared_env: Any, run: Any, small_search: dict[str, int]) -> None:
    asked = []
    for _ in range(2):
        env, controller = prepared_env(mpc(small_search))
        infos, _ = run(env, controller, intervals=40)
        asked.append([info["knobs"] for info in infos])
    assert asked[0] == asked[1]
    assert len(set(asked[0])) > 1


def test_a_new_episode_forgets_the_old_one(
    prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    env, controller = prepared_env(mpc(small_search))
    observation, _ = env.reset(seed=3)
    state, ages = None, []
    for interval in range(60):
        action, state = controller.predict(observation, state, np.array([interval % 30 == 0]))
        ages.append(state.estimates[0].now_s)
        observation, *_ = env.step(action)
        if interval % 30 == 29:
            observation, _ = env.reset(seed=3)
    assert ages[29] == pytest.approx(14.5)
    assert ages[30] == 0.0


def test_servers_side_by_side_restart_one_by_one(
    prepared_env: Any, small_search: dict[str, int]
) -> None:
    env, controller = prepared_env(mpc(small_search))
    first, _ = env.reset(seed=3)
    pair = np.stack([first, first])
    _, state = controller.predict(pair, None, np.array([True, True]))
    _, state = controller.predict(pair, state, np.array([False, False]))
    actions, state = controller.predict(pair, state, np.array([False, True]))
    assert actions.shape == (2, 2)
    assert [item.now_s for item in state.estimates] == [1.0, 0.0]


def test_a_late_decision_is_counted_and_the_plan_before_followed(
    prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    env, controller = prepared_env(mpc(small_search, time_limit_s=1e-6))
    infos, state = run(env, controller, intervals=20)
    told = controller.report(state)
    assert told["overruns"] == told["decisions"] - 1 > 5  # there is no plan before the first
    assert {info["knobs"].power_cap_w for info in infos} <= set(env.context.grid.power_caps_w)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_it_learns_that_lengths_are_others(
    factor: float, prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    workload = {"base": "poisson_gsm8k", "load": 0.8, "output_scale": factor}
    twin = Scenario(workload={"base": "poisson_gsm8k", "load": 0.8})
    env, controller = prepared_env(mpc(small_search), workload=workload, twin=twin)
    _, state = run(env, controller, intervals=160)
    assert controller.report(state)["output_length_factor"] == pytest.approx(factor, rel=0.15)


@pytest.mark.parametrize(
    "workload", [{"base": "poisson_gsm8k", "load": 0.7}, "closed_loop"], ids=["open", "closed"]
)
def test_it_learns_that_the_server_is_slower(
    workload: Any, prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    """A twin whose steps take too little time mends just that, not its power or its lengths."""
    env, controller = prepared_env(mpc(small_search), workload=workload, faster=1.4)
    _, state = run(env, controller, intervals=240)
    told = controller.report(state)
    assert told["time_factor"] == pytest.approx(1.4, rel=0.08)
    assert told["power_factor"] == pytest.approx(1.0, abs=0.02)
    assert told["output_length_factor"] == pytest.approx(1.0, abs=0.05)


def test_it_has_to_be_prepared(prepared_env: Any, small_search: dict[str, int]) -> None:
    env, _ = prepared_env(mpc(small_search))
    fresh = catalog.build("controller", mpc(small_search))
    fresh.bind(env.context)
    observation, _ = env.reset(seed=3)
    with pytest.raises(ConfigurationError, match="prepare"):
        fresh.predict(observation)
