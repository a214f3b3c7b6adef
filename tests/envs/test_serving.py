"""The environment's contract: info, reward, conditions, masks, QoS readings, seeds."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from support.server_specs import Given, make_server

import envs  # noqa: F401 - registers the environments
from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import make_simulated
from envs.knobs import Knobs
from envs.objectives.conditions import Conditions
from envs.serving import ServingEnv
from envs.telemetry import NUMERIC_FIELDS, Telemetry

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "model": "gpt2",
    "server": {"base": "simulated", "tensor_parallel": 1, "max_num_seqs": 16},
}
MOVING: dict[str, Any] = {
    "base": "moving_target",
    "target": {"levels": [0.5, 1.0], "every_s": 2.0},
    "ttft_slo_s": 0.5,
    "tpot_slo_s": 0.05,
    "qos": {"window_s": 2.0, "warmup_s": 3.0},
}


BASELINE = [5, 3]
"""Action of the highest cap and the largest batch of these servers."""


def rollout(env: Any, seed: int | None, steps: int = 40) -> list[Any]:
    """Returns everything an episode of fixed pseudo-random actions gives back."""
    found: list[Any] = [env.reset(seed=seed)]
    actions = np.random.default_rng(1)
    for _ in range(steps):
        found.append(env.step(actions.integers(env.action_space.nvec)))
    return found


def digest(found: list[Any]) -> str:
    """Hashes observations and telemetry to the last bit."""
    sha = hashlib.sha256()
    for observation, *rest in found:
        sha.update(observation.tobytes())
        sha.update(repr(rest).encode())
    return sha.hexdigest()


def highest(env: Any) -> Any:
    return np.array(env.action_space.nvec) - 1


# ------------------------------------------------------------------------------ info


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def test_info_holds_raw_telemetry_conditions_knobs_and_the_reward_by_name() -> None:
    env = make_simulated(**SMALL, objective=MOVING)
    _, info = env.reset(seed=0)
    assert isinstance(info["telemetry"], Telemetry)
    assert isinstance(info["conditions"], Conditions)
    info = env.step(highest(env))[4]
    assert isinstance(info["telemetry"], Telemetry)
    assert isinstance(info["conditions"], Conditions)
    assert isinstance(info["knobs"], Knobs)
    assert set(info["rewards"]) == {"efficiency", "qos", "budget", "latency", "switching"}
    assert info["cost"] in (0.0, 1.0)


def test_info_holds_plain_numbers_and_no_nan() -> None:
    for _, *rest in rollout(make_simulated(**SMALL, objective=MOVING), 5):
        for leaf in leaves(rest[-1]):
            assert type(leaf) in (float, int, str, type(None))
            assert not (isinstance(leaf, float) and math.isnan(leaf))


def test_the_reward_is_the_sum_of_its_terms() -> None:
    env = make_simulated(**SMALL, objective={**MOVING, "power_budget": catalog_budget(60.0)})
    seen = dict.fromkeys(("efficiency", "qos", "budget", "latency", "switching"), 0.0)
    for _, reward, _, _, info in rollout(env, 3, steps=80)[1:]:
        assert reward == pytest.approx(sum(info["rewards"].values()), abs=1e-12)
        for name, value in info["rewards"].items():
            seen[name] += abs(value)
    assert min(seen.values()) > 0.0, f"a term never spoke up: {seen}"


def catalog_budget(watts: float) -> dict[str, Any]:
    """A constant budget, as a configuration."""
    return {"_target_": "envs.objectives.signals.Constant", "value": watts / 400.0}


def test_the_budget_term_speaks_up_exactly_when_power_exceeds_the_budget() -> None:
    env = make_simulated(**SMALL, objective={**MOVING, "power_budget": catalog_budget(152.0)})
    signs = set()
    for _, _, _, _, info in rollout(env, 3, steps=60)[1:]:
        over = info["telemetry"].power_w > info["conditions"].power_budget_w
        assert (info["rewards"]["budget"] < 0.0) == over
        signs.add(over)
    assert signs == {True, False}


# ----------------------------------------------------------------------- time and seeds


def test_time_running_out_truncates_and_nothing_terminates() -> None:
    env = gymnasium.make("pals/Simulated-v0", max_episode_steps=7, **SMALL)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(7)]
    assert ends == [(False, False)] * 6 + [(False, True)]
    assert gymnasium.spec("pals/Simulated-v0").max_episode_steps == 1200


def test_the_same_seed_gives_the_same_numbers_bit_for_bit() -> None:
    env, other = make_simulated(**SMALL), make_simulated(**SMALL)
    first = digest(rollout(env, 11))
    assert digest(rollout(other, 11)) == first
    rollout(env, 12, steps=17)
    assert digest(rollout(env, 11)) == first
    assert digest(rollout(env, 12)) != first


def test_a_reset_without_a_seed_goes_on_to_another_episode() -> None:
    env, other = make_simulated(**SMALL), make_simulated(**SMALL)
    both = [[digest(rollout(e, 4)), digest(rollout(e, None))] for e in (env, other)]
    assert both[0] == both[1]
    assert both[0][0] != both[0][1]


def test_another_process_gives_the_same_numbers() -> None:
    program = (
        "import sys; sys.path[:0] = ['tests', 'tests/envs']\n"
        "import test_serving as t\n"
        "print(t.digest(t.rollout(t.make_simulated(**t.SMALL), 11)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=900, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.strip() == digest(rollout(make_simulated(**SMALL), 11))


# ------------------------------------------------------------------------- observation


def test_observations_stay_within_bounds_however_great_the_load() -> None:
    env = make_simulated(
        model="gpt2",
        workload={"base": "poisson_gsm8k", "load": 30.0},
        server={"base": "simulated", "tensor_parallel": 1, "max_num_seqs": 16},
    )
    observation, _ = env.reset(seed=0)
    for _ in range(60):
        assert env.observation_space.contains(observation)
        observation = env.step(np.array([0, 0]))[0]
    waiting = env.context.layout.index("waiting")
    assert observation[waiting] > 1.0, "the load was to be overwhelming"


def test_an_observation_names_what_was_observed_and_what_is_demanded_next() -> None:
    env = make_simulated(**SMALL, objective=MOVING)
    _, info = env.reset(seed=0)
    upcoming = info["conditions"]
    actions = np.random.default_rng(0)
    asked = [Knobs(400.0, 16, 1410.0)] * 2
    for _ in range(20):
        observation, _, _, _, info = env.step(actions.integers(env.action_space.nvec))
        assert info["conditions"] == upcoming
        seen = env.context.layout.decode(observation)
        telemetry = info["telemetry"]
        upcoming = env._conditions
        asked = [info["knobs"], asked[0]]
        for value, expected in [
            (seen.output_tok_s, telemetry.output_tokens / 0.5),
            (seen.running, telemetry.running),
            (seen.waiting, telemetry.waiting),
            (seen.prefill_backlog_tokens, telemetry.prefill_backlog_tokens),
            (seen.power_w, telemetry.power_w),
            (seen.throughput_tok_s, info["throughput_tok_s"]),
            (seen.target_tok_s, upcoming.target_tok_s),
            (seen.tpot_slo_s, upcoming.tpot_slo_s),
            (seen.power_budget_w, math.inf),
            (seen.last_power_cap_w, asked[0].power_cap_w),
            (seen.last_max_num_seqs, asked[0].max_num_seqs),
            (seen.previous_power_cap_w, asked[1].power_cap_w),
            (seen.previous_max_num_seqs, asked[1].max_num_seqs),
        ]:
            assert value == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_no_observation_tells_how_long_an_answer_will_be() -> None:
    """Two servers whose requests differ only in output length look alike until one ends."""

    def observations(output: int) -> list[Any]:
        requests = [(0.3 * index, 40, output) for index in range(30)]
        server = make_server(Given(requests), model="olmoe_1b_7b", exact_steps=True, max_num_seqs=8)
        server.capacity_tok_s, server.offered_tok_s, server.rated_power_w = 1e3, 500.0, 300.0
        parts = [catalog.build(g, c) for g, c in [("objective", MOVING), ("action", "grid")]]
        env = ServingEnv(
            server, *parts, catalog.build("reward", "default"), power_caps_w=[150.0, 400.0]
        )
        found = [env.reset(seed=0)[0]]
        finished = 0.0
        while not finished:
            observation, _, _, _, info = env.step(np.array([1, 1]))
            finished = info["telemetry"].finished
            found.append(observation)
        return found[:-1]

    short, long = observations(900), observations(1800)
    assert len(short) > 4
    assert len(long) > len(short)
    for one, other in zip(short, long, strict=False):
        np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("action", ["grid", "joint", "delta"])
def test_masks_allow_the_caps_within_the_budget_and_always_the_lowest(action: str) -> None:
    env = make_simulated(
        **SMALL, action=action, objective={**MOVING, "power_budget": catalog_budget(260.0)}
    )
    env.reset(seed=0)
    masks = env.action_masks()
    caps = env.encoding.grid.power_caps_w
    if action == "grid":
        assert masks[: len(caps)].tolist() == [cap <= 260.0 for cap in caps]
        assert masks[len(caps) :].all()
        assert masks.size == sum(env.action_space.nvec)  # type: ignore[attr-defined]
    elif action == "joint":
        choices = env.encoding.grid.choices
        assert masks.tolist() == [knobs.power_cap_w <= 260.0 for knobs in choices]
    else:  # at 400 W: neither staying nor going up keeps within 260 W
        assert masks[:3].tolist() == [True, False, False]
    tight = make_simulated(
        **SMALL, objective={**MOVING, "power_budget": catalog_budget(10.0)}
    )  # fmt: skip
    tight.reset(seed=0)
    assert tight.action_masks()[: len(caps)].tolist() == [True] + [False] * (len(caps) - 1)


def test_masks_follow_a_budget_that_moves_and_its_scope() -> None:
    steps = {
        "_target_": "envs.objectives.signals.Steps", "levels": [800.0, 600.0], "every_s": 1.0,
    }  # fmt: skip
    env = make_simulated(
        **SMALL,
        objective={
            **MOVING, "power_budget": steps, "power_budget_unit": "w", "power_scope": "system",
        },
    )  # fmt: skip
    env.reset(seed=0)
    allowed = []
    for _ in range(4):
        allowed.append(int(env.action_masks()[:6].sum()))
        env.step(np.array([0, 0]))
    # (800 - 345) / 1.05 = 433 W: all six; (600 - 345) / 1.05 = 243 W: 150 and 200 W.
    assert allowed == [6, 6, 2, 2]


# --------------------------------------------------------------------------------- QoS


def costs(reading: str, action: Any, steps: int = 80, **choices: Any) -> list[float]:
    env = make_simulated(
        **SMALL, reward={"base": "default", "qos_definition": reading}, **choices
    )  # fmt: skip
    env.reset(seed=2)
    return [env.step(np.array(action))[4]["cost"] for _ in range(steps)]


def test_the_baseline_never_violates_relative_to_itself() -> None:
    steady = {"workload": {"base": "poisson_gsm8k", "load": 0.8}, "objective": MOVING}
    assert sum(costs("reference", BASELINE, **steady)) == 0.0
    assert sum(costs("plain", BASELINE, **steady)) > 0.0
    assert sum(costs("reference", [0, 0], **steady)) > 0.0


def test_the_reference_has_no_power_budget() -> None:
    heavy = {
        "workload": {"base": "poisson_gsm8k", "load": 1.3},
        "objective": {**MOVING, "power_budget": catalog_budget(100.0)},
    }
    assert sum(costs("reference", BASELINE, **heavy)) == 0.0


def test_a_closed_loop_is_compared_at_the_same_concurrency() -> None:
    loop = {"workload": {"base": "closed_loop", "concurrency": 8}, "objective": MOVING}
    assert sum(costs("reference", BASELINE, **loop)) == 0.0
    assert sum(costs("reference", [5, 0], **loop)) > 0.0


def test_the_definitions_differ_as_they_are_defined() -> None:
    """Plain blames the server for quiet arrivals; backlog-aware only while work waits."""
    env = make_simulated(
        **SMALL,
        objective={**MOVING, "target": {"levels": [1.2], "every_s": 10.0}},
        workload={"base": "poisson_gsm8k", "load": 0.5},
    )
    env.reset(seed=2)
    plain = backlog = 0.0
    for index in range(120):
        info = env.step(np.array(BASELINE if index < 60 else [5, 0]))[4]
        below = info["throughput_tok_s"] < 0.95 * info["conditions"].target_tok_s
        telemetry = info["telemetry"]
        waits = telemetry.waiting > 0 and telemetry.oldest_wait_s >= 0.5
        warm = telemetry.time_s > 3.0 + 1e-9
        assert info["violation_plain"] == float(below and warm)
        assert info["violation_backlog"] == float(below and warm and waits)
        assert info["cost"] == info["violation_backlog"]
        plain += info["violation_plain"]
        backlog += info["violation_backlog"]
    assert plain > backlog > 0.0


def test_warm_up_is_left_out_of_qos_and_latency_but_not_of_energy_or_tokens() -> None:
    def run(warmup_s: float) -> tuple[list[float], float, float, int]:
        env = make_simulated(
            **SMALL,
            workload={"base": "poisson_gsm8k", "load": 1.5},
            objective={**MOVING, "qos": {"window_s": 2.0, "warmup_s": warmup_s}},
            reward={"base": "default", "qos_definition": "plain"},
        )
        env.reset(seed=2)
        infos = [env.step(np.array([0, 0]))[4] for _ in range(40)]
        energy = sum(info["telemetry"].energy_gpu_j for info in infos)
        tokens = sum(info["telemetry"].output_tokens for info in infos)
        return [info["cost"] for info in infos], energy, tokens, env.system.latency().ttft.sum()

    cold, warm = run(0.0), run(10.0)
    assert warm[0][:20] == [0.0] * 20
    assert sum(cold[0][:20]) > 0.0
    assert warm[0][20:] == cold[0][20:]
    assert warm[1:3] == cold[1:3]
    assert 0 < warm[3] < cold[3]


def test_a_reading_that_needs_the_simulator_is_refused_without_it() -> None:
    server = make_server(Given([(0.0, 10, 10)]))
    with pytest.raises(ConfigurationError, match=r"reward\.qos_definition.*only the simulator"):
        ServingEnv(
            server,
            catalog.build("objective", "throughput_target"),
            catalog.build("action", "grid"),
            catalog.build("reward", {"base": "default", "qos_definition": "reference"}),
            power_caps_w=[400.0],
        )


def test_telemetry_lists_its_numbers_first() -> None:
    """Rows of numbers and telemetry are the same thing in the same order."""
    env = make_simulated(**SMALL)
    env.reset(seed=0)
    telemetry = env.step(highest(env))[4]["telemetry"]
    row = env.system._fleet.telemetry[0]  # type: ignore[attr-defined]
    assert list(telemetry[: len(NUMERIC_FIELDS)]) == row.tolist()
