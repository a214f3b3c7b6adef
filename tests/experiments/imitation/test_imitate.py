"""Teaching by planning: honest costs, a student that follows them, and exact resuming."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from agents.bundle import read_bundle
from agents.controller import Agent
from baselines.fixed_knobs import FixedKnobs
from baselines.twin.cost import COLUMNS, OUTPUT, RUNNING
from envs import catalog
from envs.actions.base import KnobGrid
from envs.errors import ConfigurationError
from envs.knobs import Knobs
from envs.objectives.conditions import Conditions
from experiments.evaluation.batched_rollout import Assignment, Episodes
from experiments.evaluation.rollout import run_episode
from experiments.evaluation.suites import SuiteScenario
from experiments.imitation.config import ImitateConfig
from experiments.imitation.lessons import Costs, Lessons
from experiments.imitation.plans import Plans
from experiments.imitation.prices import LessonCost
from experiments.imitation.school import School
from experiments.imitation.student import Student, Study
from experiments.imitation.teacher import Lesson, Teacher
from experiments.training.resumed import resumed_config

TINY = (
    "agent.servers=4", "at_once=2", "rounds=2", "duration=40", "study.updates=5",
    "study.batch=64", "evaluate_seeds=1", "evaluate_duration=40", "suite.only=[steady_40]",
)  # fmt: skip
CALLS: list[tuple[str, int, int]] = []


def plans_of(caps: int, batches: int, *, lowered: int, clocks: int = 0) -> Plans:
    """Plans for a grid of so many levels; of clock limits all but the lowest two are tried."""
    levels = KnobGrid(
        tuple(map(float, range(caps))), tuple(range(batches)), tuple(map(float, range(clocks)))
    )
    return Plans.of_grid(levels, lowered=lowered, clocks=max(2, clocks - 2))


def compose_imitate(*overrides: str) -> ImitateConfig:
    import hydra

    from experiments.app import schemas
    from experiments.app.composition import typed

    schemas.register()
    with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        return typed(ImitateConfig, hydra.compose("imitate", [*TINY, *overrides]))


def taught(folder: Path, *overrides: str, **changes: Any) -> School:
    school = School(replace(compose_imitate(*overrides), **changes), folder)
    school.run(lambda what, done, total: CALLS.append((what, done, total)))
    return school


@pytest.fixture(scope="module")
def whole(compose: Any, tmp_path_factory: Any) -> tuple[School, Path]:
    folder = tmp_path_factory.mktemp("imitate")
    return taught(folder), folder


def test_every_first_action_is_tried_with_every_later_cap() -> None:
    plans = plans_of(6, 6, lowered=2)
    top = plans.first[:, 1] == 5
    assert {(a, b) for a, b in zip(plans.first[top, 0], plans.later[top, 0], strict=True)} == {
        (a, b) for a in range(6) for b in range(6)
    }
    assert set(plans.action.tolist()) == {
        6 * cap + batch for cap in range(6) for batch in (3, 4, 5)
    }
    low = plans.first[:, 1] < 5
    np.testing.assert_array_equal(plans.first[low], plans.later[low])


def test_where_the_clock_is_a_knob_plans_move_it_under_the_highest_cap() -> None:
    plans = plans_of(6, 2, lowered=1, clocks=5)
    assert plans.sizes == (6, 2, 5)
    assert set(map(tuple, plans.first.tolist())) == {
        (5, batch, clock) for batch in (0, 1) for clock in (2, 3, 4)
    }
    assert len(plans.first) == 9 + 3


def test_an_action_that_no_plan_begins_with_is_as_bad_as_can_be() -> None:
    plans = plans_of(2, 1, lowered=0, clocks=4)
    count = len(plans.first)
    costs = Costs(plans, 5.0).above_best(
        lessons_of([[1.0] * count], [[0.0] * count]), torch.zeros(1), torch.zeros(1)
    )
    assert costs[0].tolist() == [[[5.0] * 4], [[5.0, 5.0, 0.0, 0.0]]]


SCENARIOS = {
    "calm": SuiteScenario(workload={"base": "poisson_gsm8k", "load": 0.6}),
    "other": SuiteScenario(
        gpu="h100_sxm", server={"base": "simulated", "tensor_parallel": 2},
        workload={"base": "bursty", "load": 0.5}, objective="budget_steps",
    ),
}  # fmt: skip


def vector(duration_s: float) -> Any:
    from envs.simulator.vector import VectorServer, VectorServingEnv

    envs = [
        one.make(action="grid", reward="default", interval_s=0.5, duration_s=duration_s)
        for one in SCENARIOS.values()
    ]
    return VectorServingEnv(
        [VectorServer.like(env) for env in envs], envs[0].reward, horizon_s=duration_s,
        autoreset_mode="disabled", randomize=True, latency=False,
    )  # fmt: skip


def test_violations_are_those_of_the_evaluation() -> None:
    """What the teacher follows beside the servers is what a controller is evaluated by."""
    seconds, seeds, action = 90.0, (11, 12), (0, 5)
    envs = {
        name: one.make(action="grid", reward="default", interval_s=0.5, duration_s=seconds)
        for name, one in SCENARIOS.items()
    }
    expected = []
    for (name, env), seed in zip(envs.items(), seeds, strict=True):
        episodes = Episodes({name: env}, [seed], seconds)
        held = FixedKnobs(Knobs(env.context.grid.power_caps_w[0], 64, None))
        held.bind(env.context)
        own = episodes.run([Assignment(held, episodes.members[name])])[name][0]
        expected.append(own.qos_violation_rate_within_budget)
    from envs.simulator.vector import VectorServer, VectorServingEnv

    env = VectorServingEnv(
        [VectorServer.like(one) for one in envs.values()], next(iter(envs.values())).reward,
        horizon_s=seconds, autoreset_mode="disabled", latency=False,
    )  # fmt: skip
    teacher = Teacher(
        env, randomize=False, plans=plans_of(6, 6, lowered=0), cost=LessonCost(),
        slo_price=1.0, first_s=1.5, horizon_s=5.0, at_once=1,
    )  # fmt: skip
    env.reset(seed=list(seeds))
    teacher.begin(seeds)
    violated = []
    for _ in range(round(seconds / 0.5)):
        info = env.step(np.array([action, action]))[4]
        violated.append(teacher.follow(info["conditions"], info["telemetry"]))
    assert max(expected) > 0
    np.testing.assert_allclose(np.nanmean(violated, axis=0), expected)


def test_a_lesson_is_what_happens_when_the_plan_is_followed() -> None:
    env = vector(120.0)
    plans = plans_of(6, 6, lowered=1)
    cost = LessonCost(work_value=0.0, late_price=0.0, strictness=0.0, severity=0.0)
    teacher = Teacher(
        env,
        randomize=True,
        plans=plans,
        cost=cost,
        slo_price=1.0,
        first_s=1.0,
        horizon_s=4.0,
        at_once=2,
    )
    seeds = (3, 4)
    env.reset(seed=list(seeds))
    teacher.begin(seeds)
    low = np.array([[1, 5], [1, 5]])
    for _ in range(90):
        info = env.step(low)[4]
        teacher.follow(info["conditions"], info["telemetry"])
    caps_w = np.array([context.grid.power_caps_w[1] for context in env.contexts])
    number = 9
    coming = Conditions(*(np.array(field) for field in info["conditions"]))
    last = np.stack([caps_w, [64.0, 64.0], [np.inf, np.inf]], axis=-1)
    lesson = teacher.lesson(np.arange(2), coming, last, np.zeros(2))
    energy_j, violated = np.zeros(2), np.zeros(2)
    for step in range(8):
        chosen = plans.first[number] if step < 2 else plans.later[number]
        info = env.step(np.array([chosen, chosen]))[4]
        energy_j += info["telemetry"].energy_gpu_j
        violated += teacher.follow(info["conditions"], info["telemetry"])
    units = energy_j / lesson.base[:, number]
    assert lesson.violations[0, number] == violated[0]  # the other one's budget has moved
    other = energy_j[0] / units[0]
    assert lesson.base[0, number] == pytest.approx(other)
    assert lesson.base[0].argmin() in np.flatnonzero(plans.later[:, 0] == 0)
    assert lesson.changes[0, 7] == 0
    assert plans.first[7].tolist() == plans.later[7].tolist() == [1, 5]


def test_a_lesson_with_clock_limits_is_what_happens_under_them() -> None:
    """The plan that keeps the lowest clock limit draws what the servers then draw."""
    from envs.simulator.vector import VectorServer, VectorServingEnv

    action = {"base": "grid", "sm_clock": True, "sm_clock_levels": 4}
    one = SCENARIOS["calm"].make(action=action, reward="default", interval_s=0.5, duration_s=60.0)
    env = VectorServingEnv(
        [VectorServer.like(one)] * 2, one.reward, horizon_s=60.0, autoreset_mode="disabled",
        latency=False,
    )  # fmt: skip
    plans = Plans.of_grid(one.context.grid, lowered=0, clocks=3)
    cost = LessonCost(work_value=0.0, late_price=0.0, strictness=0.0, severity=0.0)
    teacher = Teacher(
        env, randomize=False, plans=plans, cost=cost, slo_price=1.0, first_s=1.0, horizon_s=4.0,
        at_once=2,
    )  # fmt: skip
    free, low = np.array([[5, 5, 3]] * 2), np.array([[5, 5, 1]] * 2)

    def followed(knobs: Any) -> Any:
        return sum(env.step(knobs)[4]["telemetry"].energy_gpu_j for _ in range(8))

    drawn_j = []
    for knobs in (free, low):
        env.reset(seed=[3, 4])
        teacher.begin((3, 4))
        for _ in range(60):
            info = env.step(free)[4]
            teacher.follow(info["conditions"], info["telemetry"])
        last = np.array([[400.0, 64.0, np.inf]] * 2)
        lesson = teacher.lesson(np.arange(2), info["conditions"], last, np.zeros(2))
        drawn_j.append(followed(knobs))
    kept = len(plans.first) - 1, 0
    assert [tuple(plans.first[n]) for n in kept] == [tuple(free[0]), tuple(low[0])]
    expected = drawn_j[1] / drawn_j[0]
    assert (expected < 0.95).all()
    np.testing.assert_allclose(lesson.base[:, kept[1]] / lesson.base[:, kept[0]], expected)
    assert lesson.changes[0, list(kept)].tolist() == [0.0, 1.0]


def test_a_lower_batch_limit_is_taught_only_where_something_asks_for_it() -> None:
    """A TPOT SLO, or a full KV cache: elsewhere it puts work off."""
    env = vector(60.0)
    plans = plans_of(6, 6, lowered=2)
    teacher = Teacher(
        env, randomize=True, plans=plans, cost=LessonCost(), slo_price=1.0, first_s=1.0,
        horizon_s=4.0, at_once=2,
    )  # fmt: skip
    _, info = env.reset(seed=[3, 4])
    teacher.begin((3, 4))
    lowered = plans.first[:, 1] < 5
    assert lowered.sum() == 12
    last = np.array([[400.0, 64.0, np.inf]] * 2)

    def ruled_out(tpot_slo_s: list[float], kv_usage: list[float]) -> list[bool]:
        coming = Conditions(*(np.array(own) for own in info["conditions"]))
        coming = coming._replace(tpot_slo_s=np.array(tpot_slo_s))
        base = teacher.lesson(np.arange(2), coming, last, np.array(kv_usage)).base
        assert (base[:, ~lowered] < 1e3).all()
        lesson = Lesson(base, 0.0 * base, 0.0 * base)
        above = Lessons.of([(np.zeros((2, 28), np.float32), lesson, np.arange(2))])
        costs = Costs(plans, 3.0).above_best(above, torch.zeros(2), torch.zeros(2))
        return [bool((own == 3.0).all()) for own in costs[:, :, 3:5]]

    assert ruled_out([np.inf, np.inf], [0.5, 0.5]) == [True, True]
    assert ruled_out([0.2, np.inf], [0.5, 0.95]) == [False, False]
    assert ruled_out([np.inf, 0.2], [0.95, 0.5]) == [False, False]


def test_a_slow_interval_counts_where_the_mean_leaves_nothing_to_spare() -> None:
    """One slow interval between fast ones makes no request late."""
    env = vector(60.0)
    teacher = Teacher(
        env, randomize=True, plans=plans_of(6, 6, lowered=0), cost=LessonCost(), slo_price=1.0,
        first_s=1.0, horizon_s=10.0, at_once=2,
    )  # fmt: skip
    env.reset(seed=[3, 4])
    teacher.begin((3, 4))
    info = env.step(np.array([[5, 5]] * 2))[4]
    slo_s, tokens = 0.05, 300.0

    def late(past: list[float], planned: list[float]) -> float:
        """Tokens that are late, by the time per token of each interval."""
        teacher.begin((3, 4))
        per_token_s = np.repeat(past, 2)  # two intervals a second
        for value in per_token_s:
            running = value * tokens / 0.5
            telemetry = info["telemetry"]._replace(
                running=np.full(2, running), output_tokens=np.full(2, tokens)
            )
            teacher.follow(info["conditions"], telemetry)
        seen = np.zeros((2, 1, 20, len(COLUMNS)))
        seen[..., OUTPUT] = tokens
        seen[..., RUNNING] = np.repeat(planned, 2) * tokens / 0.5
        found = teacher.slow_tokens(np.arange(2), np.full(2, slo_s), seen)
        return float(found[0, 0]) / tokens

    fast, slow = 0.03, 0.06
    assert late([fast] * 10, [fast] * 10) == 0.0
    once = [fast] * 4 + [slow] + [fast] * 5
    assert late([fast] * 10, once) == pytest.approx(0.0, abs=1e-9)
    assert late([slow] * 10, [slow] * 10) == 20.0
    assert late([slow] * 10, [fast] * 10) == 0.0
    assert 0.0 < late([fast] * 10, [slow] * 10) < 20.0
    alone, among_slow = ([past] * 10 for past in (fast, 0.044))
    assert late(alone, [slow] + [fast] * 9) == pytest.approx(0.0, abs=1e-9)
    assert late(among_slow, [slow] + [fast] * 9) == pytest.approx(2.0)


def lessons_of(base: list[list[float]], violations: list[list[float]]) -> Lessons:
    count = len(base)
    return Lessons.of(
        [
            (
                np.zeros((count, 28), np.float32),
                Lesson(np.array(base), np.array(violations), np.zeros((count, len(base[0])))),
                np.arange(count),
            )
        ]
    )


def test_an_action_costs_what_its_cheapest_plan_costs() -> None:
    plans = plans_of(2, 1, lowered=0)
    assert plans.action.tolist() == [0, 0, 1, 1]
    lessons = lessons_of([[3.0, 1.0, 2.0, 4.0]], [[0.0, 1.0, 0.0, 0.0]])
    costs = Costs(plans, 5.0)
    nothing = torch.zeros(1)
    assert costs.above_best(lessons, nothing, nothing).flatten().tolist() == [0.0, 1.0]
    high = costs.above_best(lessons, nothing + 8.0, nothing).flatten().tolist()
    assert high == pytest.approx([1.0 / 3.0, 0.0])  # 3 against 2, over the root of the price


def student_of(plans: Plans, lessons: Lessons, limits: list[float], prices: Any) -> Any:
    """A policy that was drawn by seed 0 and has studied some lessons."""
    import gymnasium as gym
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.common.utils import ConstantSchedule

    torch.manual_seed(0)
    box = gym.spaces.Box(0.0, 4.0, (30,))
    policy = ActorCriticPolicy(
        box, gym.spaces.MultiDiscrete([2, 1]), ConstantSchedule(0.0), net_arch=[16, 16]
    )
    study = Study(updates=300, batch=64, learning_rate=1e-2)
    student = Student(policy, Costs(plans, 9.0), study, limits, [0.0])
    student.learn(lessons, np.array(prices), 0.0, torch.Generator().manual_seed(0))
    return policy


def test_a_student_does_what_is_best_on_average_and_heeds_the_limit() -> None:
    """Where futures differ, the mean decides and not the plan that is best most often."""
    from agents.asked import with_asked

    # Two futures in three favour the first action a little, one abhors it.
    lessons = lessons_of(
        [[0.0, 0.0, 0.1, 0.1]] * 2 + [[0.0, 0.0, 0.1, 0.1]], [[0, 0, 0, 0]] * 2 + [[3, 3, 0, 0]]
    )
    prices = [[1.0] * 3, [0.05] * 3]
    policy = student_of(plans_of(2, 1, lowered=0), lessons, [0.005, 0.1], prices)
    seen = with_asked(np.zeros((2, 28), np.float32), np.array([0.005, 0.1]), 0.0)
    action, _ = policy.predict(seen, deterministic=True)
    assert action[:, 0].tolist() == [1, 0]


def test_prices_are_those_of_the_server_that_a_lesson_is_of() -> None:
    """Two servers that can be told apart: one is priced as if violations hardly mattered."""
    from agents.asked import with_asked

    lesson = Lesson(
        np.array([[0.0, 0.0, 0.1, 0.1]] * 2), np.array([[1.0, 1.0, 0.0, 0.0]] * 2),
        np.zeros((2, 4)),
    )  # fmt: skip
    told = np.repeat([[0.0], [1.0]], 28, axis=1).astype(np.float32)
    lessons = Lessons.of([(told, lesson, np.array([1, 0]))])
    policy = student_of(plans_of(2, 1, lowered=0), lessons, [0.02], [[0.01, 1.0]])
    action, _ = policy.predict(with_asked(told, 0.02, 0.0), deterministic=True)
    assert action[:, 0].tolist() == [1, 0]


def test_a_servers_factor_follows_what_it_violates(tmp_path: Path) -> None:
    school = School(compose_imitate("server_step=0.5", "most_factor=4"), tmp_path)
    limits = np.array(school._asked.limits)
    level = np.array([0, 5, 5, 5])
    violated = np.zeros((40, 4))
    violated[:8, 2] = 1.0  # twice the loosest limit
    violated[:4, 1] = 1.0  # just that
    violated[:, 3] = np.nan
    assert limits[5] == 0.1
    own = school._prices
    own.move([None] * 6, level, violated)
    np.testing.assert_allclose(own.factors, np.exp([-0.5, 0.0, 0.5, 0.0]))
    for _ in range(5):
        own.move([None] * 6, level, violated)
    np.testing.assert_allclose(own.factors, [0.25, 1.0, 4.0, 1.0])
    prices = own.each()
    assert prices.shape == (6, 4)
    assert prices.max() <= school.config.highest_price
    for factor in ("0.5", "0", "-3"):
        with pytest.raises(ConfigurationError, match="most_factor"):
            compose_imitate(f"most_factor={factor}")
    assert prices[1, 2] == pytest.approx(min(4.0 * prices[1, 1], school.config.highest_price))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("agent.action=continuous", r"agent\.action: only a grid can be taught"),
        ("agent.action=joint", r"agent\.action: only a grid can be taught"),
        ("first_s=10", "first_s: must be shorter than horizon_s"),
        ("horizon_s=0.4", "horizon_s: must hold two intervals"),
        ("at_once=3", "at_once: must divide"),
        ("lowest_price=20", "lowest_price: must be at most highest_price"),
        ("duration=10", "duration: must be longer than the 10 s"),
        ("evaluate_duration=10", "evaluate_duration: must be longer than the 10 s"),
    ],
)
def test_what_contradicts_is_refused_by_name(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        School(compose_imitate(override), tmp_path)


def test_a_single_update_tells_its_cost(tmp_path: Path) -> None:
    school = taught(tmp_path, "rounds=1", "study.updates=1")
    assert np.isfinite(school.rounds[0]["cost"])


def test_it_ends_in_a_bundle_that_runs(whole: tuple[School, Path]) -> None:
    school, folder = whole
    facts = read_bundle(folder / "bundle")
    assert facts.evaluation["steps"] == 2 * 4 * 80
    widths = school.config.agent["arguments"]["policy_kwargs"]["net_arch"]
    assert facts.policy_arguments["net_arch"] == {"pi": widths, "vf": school.config.critic}
    assert facts.evaluation["asked"].keys() == {"0.02", "0.005", "0.05"}
    assert [row["lessons"] for row in school.rounds] == [160, 320]
    agent: Agent = catalog.build("controller", {"base": "ppo", "bundle": str(folder)})
    env = SCENARIOS["calm"].make(action="grid", reward="default", interval_s=0.5, duration_s=10.0)
    agent.bind(env.context)
    observation, _ = env.reset(seed=1)
    action, _ = agent.predict(observation)
    assert env.action_space.contains(action)
    assert ("teaching", 1, 2) in CALLS


def test_a_student_may_remember(compose: Any, tmp_path: Path) -> None:
    taught(tmp_path, "agent.memory.entries=[running,output_tok_s]", "agent.memory.until_s=[2,10]")
    assert len(read_bundle(tmp_path / "bundle").observation) == 28 + 4 + 2
    agent = Agent(bundle=str(tmp_path))
    env = SCENARIOS["calm"].make(action="grid", reward="default", interval_s=0.5, duration_s=15.0)
    agent.bind(env.context)
    episode = run_episode(env, agent, seed=3, duration_s=15.0)
    assert len(episode.table["output_tokens"]) == 30


def test_what_was_ended_goes_on_as_if_it_had_not_been(
    whole: tuple[School, Path], tmp_path: Path
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    begun = School(compose_imitate(), first)
    begun._begin()
    begun._round(0)
    again = resumed_config(compose_imitate(f"resume={first}"), [f"resume={first}"])
    second = tmp_path / "second"
    second.mkdir()
    school = School(again, second)
    school.run(lambda what, done, total: None)
    for key, value in whole[0].policy.state_dict().items():
        torch.testing.assert_close(school.policy.state_dict()[key], value, rtol=0, atol=0)
    assert school.rounds == whole[0].rounds
    third = tmp_path / "third"
    last = School(resumed_config(compose_imitate(f"resume={second}"), []), third)
    last._resume()
    assert last.rounds == school.rounds
    torch.testing.assert_close(last._lessons[0].base, school._lessons[0].base, rtol=0, atol=0)


def test_what_was_taught_is_used_only_as_it_was_written(
    whole: tuple[School, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    school = School(compose_imitate(), tmp_path / "rest")

    def resumed(name: str, change: Callable[[Path], object]) -> None:
        folder = tmp_path / name
        shutil.copytree(whole[1], folder)
        change(folder)
        school.config = resumed_config(compose_imitate(f"resume={folder}"), [])
        school._resume()

    def cheaper(file: Path) -> None:
        file.write_text(file.read_text().replace("price_step: 0.3", "price_step: 0.2"))

    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    def pipe(file: Path) -> None:
        file.unlink()
        os.mkfifo(file)

    lesson = Path("lessons") / "000.npz"
    changes: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "a bit of the student": (Path("student.pt"), flip),
        "no student": (Path("student.pt"), Path.unlink),
        "an empty student": (Path("student.pt"), lambda file: file.write_bytes(b"")),
        "a bit of a lesson": (lesson, flip),
        "a pipe for a lesson": (lesson, pipe),
        "no lesson": (lesson, Path.unlink),
        "an edited configuration": (Path("config.yaml"), cheaper),
    }
    for name, (file, change) in changes.items():
        with pytest.raises(ConfigurationError, match=rf"resume: .*{file.name}"):
            resumed(name, lambda folder, file=file, change=change: change(folder / file))
    resumed("rounds that were edited are written again", lambda f: (f / "rounds.json").unlink())
    assert "other code" not in caplog.text


def test_a_resumed_teaching_keeps_its_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="rounds"):
        resumed_config(replace(compose_imitate(), resume=str(tmp_path)), ["rounds=3"])
    with pytest.raises(ConfigurationError, match=r"no config\.yaml"):
        resumed_config(replace(compose_imitate(), resume=str(tmp_path)), [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lacks"),
        ("- 1", "holds no keys"),
        ("{seed: 0", "damaged"),
        ("a: &x [*x]", "damaged"),
        ("seed: 0", "lacks"),
        ("seed: 0\nno_such_key: 1", "no_such_key"),
        (b"\xff\xfe", "damaged"),
        (None, "not a regular file"),
        ("WHOLE rounds: -3", "rounds: must be"),
        ("WHOLE interval: nan", "interval: must be"),
    ],
)
def test_a_kept_configuration_that_is_none_is_named(
    tmp_path: Path, content: str | bytes | None, message: str
) -> None:
    file = tmp_path / "config.yaml"
    if content is None:
        file.symlink_to("/dev/zero")
    elif isinstance(content, bytes):
        file.write_bytes(content)
    elif content.startswith("WHOLE "):
        key, _, value = content.removeprefix("WHOLE ").partition(": ")
        whole = {**compose_imitate().record(), key: float(value) if "n" in value else int(value)}
        file.write_text(OmegaConf.to_yaml(OmegaConf.create(whole)))
    else:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        resumed_config(replace(compose_imitate(), resume=str(tmp_path)), [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["at_once=3"], "at_once"),
        (["agent=sac"], "agent.action: only a grid"),
        (["agent=sac", "agent.action=grid"], "actor-critic"),
    ],
)
def test_mistakes_are_named(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        School(compose_imitate(*overrides), tmp_path)
