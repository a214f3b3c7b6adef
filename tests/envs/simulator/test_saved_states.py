"""Saved, restored and copied servers go on exactly as the original does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support.server_specs import Given, make_server_spec

from envs.errors import ConfigurationError, WorkloadError
from envs.factory import build_server_spec, make_simulated
from envs.scenario import Scenario
from envs.serving import ServingEnv
from envs.simulator.fleet import Fleet
from envs.simulator.kernel import layout as at
from envs.simulator.savable import SavableFleet
from envs.telemetry import COLUMN
from envs.workloads.shared import SharedStream

SERVER = {"base": "simulated", "tensor_parallel": 1, "max_num_seqs": 32}
WORKLOADS: list[Any] = [
    {"base": "poisson_gsm8k", "load": 0.4},
    {"base": "poisson_gsm8k", "load": 3.0},  # the queue grows and its memory moves
    "bursty_strong",
    {"base": "closed_loop", "concurrency": 40},
    {"base": "diurnal", "load": 0.9},
]


def spec_of(workload: Any, **parts: Any) -> Any:
    scenario = Scenario.of(model="gpt2", server=SERVER, workload=workload, **parts)
    return build_server_spec(scenario)


def plan(count: int, intervals: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    caps = rng.uniform(100.0, 400.0, (count, intervals))
    seqs = rng.integers(1, 33, (count, intervals)).astype(float)
    return np.stack([caps, seqs, np.full_like(caps, math.inf)], axis=-1)


def step_by_step(fleet: Fleet, knobs: Any, seconds: float = 0.5) -> Any:
    """The telemetry of a plan, an interval at a time; shape ``(servers, intervals, n)``."""
    rows = []
    for interval in range(knobs.shape[1]):
        fleet._states.requested[:] = knobs[:, interval]
        rows.append(fleet.advance(seconds).copy())
    return np.stack(rows, axis=1)


def started(workload: Any, steps: int = 30, chunk: int = 64, **options: Any) -> SavableFleet:
    """A server some way into its episode; chunks are small, so that streams are drawn often."""
    fleet = SavableFleet([spec_of(workload)], chunk=chunk, **options)
    fleet.reset(0, 7)
    step_by_step(fleet, plan(1, steps, 3))
    return fleet


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("randomize", [False, True])
def test_a_restored_server_goes_on_as_it_did(workload: Any, randomize: bool) -> None:
    fleet = started(workload, randomize=randomize)
    knobs = plan(1, 60)
    saved = fleet.snapshot()
    first = step_by_step(fleet, knobs)
    latency = fleet.latency(0)
    for _ in range(2):
        fleet.restore(saved)
        np.testing.assert_array_equal(step_by_step(fleet, knobs), first)
        again = fleet.latency(0)
        np.testing.assert_array_equal(again.ttft, latency.ttft)
        assert again.finished == latency.finished > 0
    fleet.restore(saved)
    step_by_step(fleet, plan(1, 7, 9))  # another way, a short one
    fleet.restore(saved)
    np.testing.assert_array_equal(step_by_step(fleet, knobs), first)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_forks_go_on_as_the_original_and_apart_from_each_other(workload: Any) -> None:
    fleet = started(workload)
    forks = fleet.fork(count=3)
    knobs = plan(3, 60)
    knobs[2] = knobs[0]
    ahead = step_by_step(forks, knobs)  # before the original
    original = step_by_step(fleet, knobs[:1])
    np.testing.assert_array_equal(ahead[0], original[0])
    np.testing.assert_array_equal(ahead[2], original[0])
    assert not np.array_equal(ahead[1], ahead[0])


@pytest.mark.parametrize("workload", WORKLOADS)
def test_forks_of_several_states_share_one_stream(workload: Any) -> None:
    """States saved one after the other and restored in any order see the same requests."""
    fleet = started(workload)
    knobs = plan(1, 90)
    saved, ways = [], []
    for begin in range(0, 60, 20):
        saved.append(fleet.snapshot())
        ways.append(step_by_step(fleet, knobs[:, begin : begin + 20]))
    forks = fleet.fork(count=1)
    for index in (2, 0, 1, 0):
        forks.restore(saved[index])
        expected = np.concatenate(ways[index:], axis=1)
        begin = 20 * index
        np.testing.assert_array_equal(step_by_step(forks, knobs[:, begin:60]), expected)


def test_rejected_requests_do_not_disturb_others() -> None:
    """A refused request leaves its place to the next one: that must not reach the saved state."""
    rng = np.random.default_rng(0)
    requests = [
        (0.05 * index, int(rng.choice([20, 900, 5000])), int(rng.integers(1, 60)))
        for index in range(900)
    ]
    fleet = SavableFleet([make_server_spec(Given(requests), max_num_seqs=8)], chunk=50)
    fleet.reset(0, 1)
    knobs = plan(1, 60)
    step_by_step(fleet, knobs[:, :11])
    saved = fleet.snapshot()
    first = step_by_step(fleet, knobs)
    assert first[0, :, COLUMN.rejected].sum() > 100
    for length in (60, 3, 60):
        fleet.restore(saved)
        np.testing.assert_array_equal(step_by_step(fleet, knobs[:, :length]), first[:, :length])


def test_a_state_fits_servers_of_its_size_only() -> None:
    saved = started(WORKLOADS[0]).snapshot()
    other = make_server_spec(Given([(0.0, 10, 10)]), max_num_seqs=8)
    with pytest.raises(ValueError, match="another size"):
        SavableFleet([other], chunk=64).restore(saved)
    with pytest.raises(ValueError, match="chunks of 64"):
        SavableFleet([spec_of(WORKLOADS[0])]).restore(saved)
    without = started(WORKLOADS[0], latency=False).snapshot()
    with pytest.raises(ValueError, match="without latencies"):
        SavableFleet([spec_of(WORKLOADS[0])], chunk=64).restore(without)
    with pytest.raises(WorkloadError, match="call reset"):
        SavableFleet([spec_of(WORKLOADS[0])]).snapshot()


def test_a_restored_server_can_be_reset() -> None:
    fleet = started(WORKLOADS[1])
    saved = fleet.snapshot()
    fleet.reset(0, 11)
    knobs = plan(1, 30)
    expected = step_by_step(fleet, knobs)
    fleet.restore(saved)
    fleet.reset(0, 11)
    np.testing.assert_array_equal(step_by_step(fleet, knobs), expected)


def test_addresses_are_the_last_words_of_a_record() -> None:
    """A row that is copied keeps what lies behind ``OUTSIDE_AT``."""
    fields: Any = at.SERVER.fields
    behind = [name for name in fields if fields[name][1] >= at.OUTSIDE_AT]
    assert sorted(behind) == sorted(at.OUTSIDE)


def test_a_shared_stream_is_drawn_once_and_forgotten_behind_its_readers() -> None:
    drawn: list[int] = []

    class Counted:
        def take(self, count: int) -> Any:
            drawn.append(count)
            return object()

    reader = SharedStream(Counted(), 5)
    begin = reader.place
    fork = reader.fork()
    mine = [reader.next_chunk() for _ in range(3)]
    assert [fork.next_chunk() for _ in range(3)] == mine
    assert drawn == [5, 5, 5]
    fork.place = begin
    assert fork.next_chunk() is mine[0]
    assert reader.place.chunk is None


# ------------------------------------------------------------------------- environments


@pytest.mark.parametrize(
    ("action", "objective", "reward"),
    [
        ("grid", "moving_target", "default"),
        ("joint", "latency_slo", "constrained"),
        ("delta", "budget_steps", "constrained"),
        ("continuous", "budget_steps", "default"),
    ],
)
def test_a_cloned_environment_goes_on_as_the_original(
    action: str, objective: str, reward: str
) -> None:
    env = make_simulated(
        model="gpt2", server=SERVER, workload="bursty_strong", action=action, reward=reward,
        objective=objective, domain_randomization=True,
    )  # fmt: skip
    env.reset(seed=5)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(90)]
    for given in actions[:30]:
        env.step(given)
    clone = env.clone()
    ahead = clone.clone()
    first = follow(ahead, actions[30:])
    assert follow(env, actions[30:]) == first
    assert follow(clone, actions[30:]) == first
    env.step(actions[0])
    assert follow(ahead, [], seed=None) == follow(clone, [], seed=None)


def follow(env: ServingEnv, actions: list[Any], seed: Any = 0) -> list[Any]:
    """Everything that an environment gives back, and the beginning of its next episode."""
    found: list[Any] = []
    for action in actions:
        observation, reward, _, _, info = env.step(action)
        masks = env.action_masks().tolist()
        found.append((observation.tobytes(), reward, dict(info), masks))
    latency = env.system.latency()
    found.append((latency.ttft.tolist(), latency.finished))
    if seed is None:
        found.append(env.reset()[0].tolist())
    return found


def test_a_clone_is_apart_from_the_original() -> None:
    env = make_simulated(model="gpt2", server=SERVER, objective="budget_steps")
    env.reset(seed=0)
    clone = env.clone()
    before = clone._loop.observations.copy()
    env.set_power_budget(123.0)
    for _ in range(5):
        env.step(np.array([0, 0]))
    np.testing.assert_array_equal(clone._loop.observations, before)
    assert clone.system.telemetry_row[0, 0] == 0.0  # type: ignore[attr-defined]


class Live:
    """A server that has no copy."""


def test_only_simulated_servers_can_be_cloned() -> None:
    env = make_simulated(model="gpt2", server=SERVER)
    env.system = Live()  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="only simulated servers can"):
        env.clone()


def test_a_server_that_begins_as_one_before_it_did_begins_alike() -> None:
    """The second begin copies the first one; warm-up and addresses stay its own."""
    spec = spec_of(WORKLOADS[0])
    fleet, fresh = SavableFleet([spec, spec]), SavableFleet([spec, spec])
    fleet.set_warmup(np.array([3.0, 5.0]))
    fresh.set_warmup(np.array([3.0, 5.0]))
    for index in (0, 1):
        fleet.reset(index, 1)
        fresh.reset(index, 4)
    knobs = plan(2, 40)
    step_by_step(fleet, knobs)
    for index in (1, 0):
        fleet.reset(index, 4)
    np.testing.assert_array_equal(fleet.telemetry, fresh.telemetry)
    np.testing.assert_array_equal(step_by_step(fleet, knobs), step_by_step(fresh, knobs))
    for index in (0, 1):
        np.testing.assert_array_equal(fleet.latency(index).ttft, fresh.latency(index).ttft)
        assert fleet._servers[index].warmup_s == (3.0, 5.0)[index]
