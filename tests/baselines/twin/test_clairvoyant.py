"""The bound: it knows what comes, exactly; it keeps the budget; and nobody is fooled about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from baselines.static import Static
from baselines.twin.clairvoyant import LostServer
from baselines.twin.cost import ENERGY, OUTPUT
from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import build_server_spec
from envs.knobs import Knobs
from envs.scenario import Scenario
from envs.simulator.fleet import Fleet
from envs.simulator.forks import Forks
from envs.telemetry import COLUMN
from envs.workloads.base import RequestChunk


def clairvoyant(small_search: dict[str, int], **keys: Any) -> dict[str, Any]:
    return {"base": "clairvoyant", "search": small_search, **keys}


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"domain_randomization": True},
        {"workload": {"base": "closed_loop", "concurrency": 50}},
        {"action": "continuous"},
    ],
)
def test_what_it_expects_is_what_happens(
    parts: dict[str, Any], prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    """Its forks are of the very server: tokens and energy agree."""
    env, controller = prepared_env(clairvoyant(small_search, replan_s=0.5), **parts)
    expected = []
    observation, _ = env.reset(seed=3)
    state, seen = None, []
    for interval in range(40):
        action, state = controller.predict(observation, state, np.array([interval == 0]))
        expected.append(state.decision.observed[0, 0, [OUTPUT, ENERGY]])
        observation, _, _, _, info = env.step(action)
        seen.append([info["telemetry"].output_tokens, info["telemetry"].energy_gpu_j])
    rounding = 1e-6 if "action" in parts else 1e-12  # an action of the Box is single precision
    np.testing.assert_allclose(expected, seen, rtol=rounding)


def test_it_saves_energy_and_keeps_up_with_baseline(
    prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    env, controller = prepared_env(clairvoyant(small_search))
    planned, _ = run(env, controller)
    static = Static()
    static.bind(env.context)
    held, _ = run(env, static)

    def total(infos: Any, name: str) -> float:
        return sum(getattr(info["telemetry"], name) for info in infos)

    assert total(planned, "energy_gpu_j") < 0.9 * total(held, "energy_gpu_j")
    assert total(planned, "output_tokens") > 0.97 * total(held, "output_tokens")


def test_the_budget_is_kept_at_its_steps(
    prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    budget = {
        "_target_": "envs.objectives.signals.Steps",
        "levels": [1.0, 0.5, 0.8],
        "every_s": 7.0,
    }
    objective = {"base": "power_budget", "power_budget": budget}
    env, controller = prepared_env(
        clairvoyant(small_search, replan_s=4.0), objective=objective,
        workload={"base": "poisson_gsm8k", "load": 1.1},
    )  # fmt: skip
    infos, _ = run(env, controller, intervals=60)
    budgets = {info["conditions"].power_budget_w for info in infos}
    assert len(budgets) == 3
    for info in infos:
        assert 4 * info["knobs"].power_cap_w <= info["conditions"].power_budget_w * 1.0002


def test_several_episodes_run_together_as_they_do_alone(
    prepared_env: Any, small_search: dict[str, int]
) -> None:
    """The very same plans need the same draws of the search, so one generation is compared."""
    from experiments.evaluation.batched_rollout import Assignment, run_batch, vector_of
    from experiments.evaluation.future import future_of

    search = {**small_search, "generations": 1, "candidates": 60, "batches": 1, "phases": 2}
    env, controller = prepared_env(clairvoyant(search))

    class Both:
        def futures(self) -> Any:
            return [future_of(env, 3), future_of(env, 4)]

    together = catalog.build("controller", clairvoyant(search))
    together.bind(env.context)
    together.prepare(Both())
    vector = vector_of([env, env])
    pair = run_batch(vector, [Assignment(together, np.arange(2))], seeds=[3, 4], duration_s=20.0)
    alone = run_batch(
        vector_of([env]), [Assignment(controller, np.arange(1))], seeds=[3], duration_s=20.0
    )
    # 36 pairs of caps fit into a generation; what is drawn beyond them may differ.
    own, other = pair[0].table["energy_gpu_j"], alone[0].table["energy_gpu_j"]
    assert own.sum() == pytest.approx(other.sum(), rel=0.05)


def test_it_says_when_the_server_is_another_one(
    prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    env, controller = prepared_env(clairvoyant(small_search), seed=3)
    with pytest.raises(LostServer, match="seed"):
        run(env, controller, seed=4)


def test_it_has_to_be_prepared(prepared_env: Any, small_search: dict[str, int]) -> None:
    env, _ = prepared_env(clairvoyant(small_search))
    fresh = catalog.build("controller", clairvoyant(small_search))
    fresh.bind(env.context)
    observation, _ = env.reset(seed=3)
    with pytest.raises(ConfigurationError, match="prepare"):
        fresh.predict(observation)


def test_more_search_costs_less(prepared_env: Any, run: Any) -> None:
    """By the planner's own measure: the cost of the plan that is chosen from the same state."""
    costs = {}
    for generations in (1, 6):
        search = {"candidates": 24, "generations": generations, "phases": 4}
        env, controller = prepared_env({"base": "clairvoyant", "search": search})
        observation, _ = env.reset(seed=3)
        _, state = controller.predict(observation)
        costs[generations] = float(state.decision.cost[0])
    assert costs[6] <= costs[1]


def test_not_knowing_arrivals_costs_something_but_not_all(
    prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    static = Static()
    spent = {}
    for samples in (0, 4):
        env, controller = prepared_env(clairvoyant(small_search, arrival_samples=samples))
        infos, _ = run(env, controller)
        spent[samples] = sum(info["telemetry"].energy_gpu_j for info in infos)
        static.bind(env.context)
        held, _ = run(env, static)
        spent[-1] = sum(info["telemetry"].energy_gpu_j for info in held)
    assert spent[4] < 0.95 * spent[-1]


def test_copies_without_a_future_get_only_what_they_are_given() -> None:
    spec = build_server_spec(Scenario(workload={"base": "poisson_gsm8k", "load": 0.7}))
    fleet = Fleet([spec], latency=False)
    fleet.reset(0, 1)
    fleet.apply(Knobs(400.0, 64, None))
    fleet.advance(10.0)
    forks = Forks(fleet, 2)
    nobody = RequestChunk(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    some = RequestChunk(np.array([10.5, 10.6]), np.array([300, 300]), np.array([5, 5]))
    knobs = np.full((1, 2, 60, 3), np.inf)
    knobs[..., 0], knobs[..., 1] = 400.0, 64
    forks.fork(None, [nobody, some])
    finished = forks.run(knobs, 0.5, np.array([COLUMN.finished])).sum(axis=(0, 2, 3))
    in_server = int(fleet.servers[0].queue_tail - fleet.servers[0].queue_head)
    in_server += int(fleet.telemetry[0, COLUMN.running])
    assert finished[1] == finished[0] + 2
    assert finished[0] == in_server
