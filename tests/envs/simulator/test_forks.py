"""Copies of servers: what they do is what the server would have done, and it notices nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.factory import build_server_spec
from envs.knobs import Knobs
from envs.scenario import Scenario
from envs.simulator.fleet import Fleet
from envs.simulator.forks import Forks
from envs.telemetry import COLUMN
from envs.workloads.base import RequestChunk

COLUMNS = np.array([COLUMN.output_tokens, COLUMN.energy_gpu_j, COLUMN.waiting, COLUMN.ttft_p99_s])
INTERVALS = 20


def spec(**workload: Any) -> Any:
    chosen = workload or {"base": "poisson_gsm8k", "load": 0.9}
    return build_server_spec(Scenario(workload=chosen))


def plans(copies: int, servers: int = 1) -> Any:
    rng = np.random.default_rng(5)
    knobs = np.full((servers, copies, INTERVALS, 3), np.inf)
    knobs[..., 0] = rng.choice([150.0, 250.0, 400.0], (servers, copies, INTERVALS))
    knobs[..., 1] = rng.choice([16, 64], (servers, copies, INTERVALS))
    return knobs


def settled(server_specs: list[Any], seconds: float = 40.0) -> Fleet:
    fleet = Fleet(server_specs)
    for index in range(len(server_specs)):
        fleet.reset(index, 7 + index)
    fleet.apply(Knobs(np.full(len(server_specs), 250.0), np.full(len(server_specs), 32), None))
    fleet.advance(seconds, np.arange(len(server_specs)))
    return fleet


def followed(fleet: Fleet, index: int, knobs: Any) -> Any:
    """What a server itself does under a plan."""
    seen = []
    for cap, seqs, _ in knobs:
        fleet.apply(Knobs(cap, seqs, None))
        fleet.advance(0.5, np.arange(fleet.num_envs))
        seen.append(fleet.telemetry[index, COLUMNS])
    return np.array(seen)


@pytest.mark.parametrize(
    "workload",
    [
        {"base": "poisson_gsm8k", "load": 0.9},
        {"base": "bursty_strong", "load": 1.3},
        {"base": "closed_loop", "concurrency": 90},
    ],
)
def test_a_copy_does_what_the_server_would_do(workload: dict[str, Any]) -> None:
    fleet = settled([spec(**workload)] * 2)
    forks = Forks(fleet, 3)
    forks.fork(INTERVALS * 0.5)
    knobs = plans(3, servers=2)
    tried = forks.run(knobs, 0.5, COLUMNS)
    np.testing.assert_array_equal(tried[1, 2], followed(fleet, 1, knobs[1, 2]))
    assert not np.array_equal(tried[1, 1], tried[1, 2])


def test_some_servers_are_copied_at_a_time() -> None:
    fleet = settled([spec()] * 3)
    everyone, some = Forks(fleet, 2), Forks(fleet, 2, servers=2)
    everyone.fork(10.0)
    knobs = plans(2, servers=3)
    tried = everyone.run(knobs, 0.5, COLUMNS)
    for which in (np.array([2, 0]), np.array([1, 2])):
        some.fork(10.0, which=which)
        np.testing.assert_array_equal(some.run(knobs[which], 0.5, COLUMNS), tried[which])


def test_the_server_notices_nothing() -> None:
    alone, planned = settled([spec()] * 2), settled([spec()] * 2)
    forks = Forks(planned, 4)
    rng = np.random.default_rng(0)
    for _ in range(30):
        forks.fork(10.0)
        forks.run(plans(4, servers=2), 0.5, COLUMNS)
        cap = rng.choice([150.0, 400.0])
        for fleet in (alone, planned):
            fleet.apply(Knobs(cap, 64, None))
            fleet.advance(0.5, np.arange(2))
        np.testing.assert_array_equal(alone.telemetry, planned.telemetry)


def test_requests_that_are_refused_do_not_disturb_other_copies() -> None:
    """Copies move requests within their memory when one of them is refused."""
    lengths = {"_target_": "envs.workloads.lengths.Lengths", "prompt": 900,
               "output": {"_target_": "envs.workloads.lengths.Quantiles",
                          "probabilities": [0.0, 0.5, 1.0], "tokens": [10, 100, 1000]}}  # fmt: skip
    scenario = Scenario(
        workload={"base": "poisson_gsm8k", "load": 0.9, "lengths": lengths},
        server={"base": "simulated", "max_model_len": 1200},
    )
    fleet = settled([build_server_spec(scenario)], 5.0)
    forks = Forks(fleet, 8)
    forks.fork(INTERVALS * 0.5)
    knobs = plans(8)
    tried = forks.run(knobs, 0.5, COLUMNS)
    for copy in range(8):
        again = Forks(fleet, 1)
        again.fork(INTERVALS * 0.5)
        np.testing.assert_array_equal(
            again.run(knobs[:, copy : copy + 1], 0.5, COLUMNS)[0, 0], tried[0, copy]
        )


def test_copies_take_requests_of_their_own() -> None:
    fleet = settled([spec()])
    forks = Forks(fleet, 2)
    now = float(fleet.servers[0].now_s)
    nothing = RequestChunk(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    many = RequestChunk(np.full(300, now), np.full(300, 100), np.full(300, 100))
    forks.fork(0.0, [nothing, many])
    waiting = forks.run(plans(2), 0.5, COLUMNS)[0, :, 0, 2]
    assert waiting[1] - waiting[0] > 200


def test_a_randomized_server_is_copied_with_its_physics() -> None:
    one = spec()
    fleet = Fleet([one], randomize=True)
    fleet.reset(0, 3)
    fleet.advance(30.0, np.arange(1))
    forks = Forks(fleet, 1)
    forks.fork(10.0)
    knobs = plans(1)
    np.testing.assert_array_equal(
        forks.run(knobs, 0.5, COLUMNS)[0, 0], followed(fleet, 0, knobs[0, 0])
    )


def test_copies_are_evaluated_by_their_own_slos() -> None:
    fleet = settled([spec(base="poisson_gsm8k", load=1.5)])
    forks = Forks(fleet, 2)
    forks.fork(10.0)
    forks.set_slos(np.array([1e-3, np.inf]), np.inf)
    columns = np.array([COLUMN.slo_missed])
    missed = forks.run(plans(2), 0.5, columns)[0, :, :, 0].sum(axis=-1)
    assert missed[0] > 10
    assert missed[1] == 0


def test_fewer_servers_than_there_is_room_for() -> None:
    """Copies of some servers do what copies of all of them do, before and after a larger batch."""
    fleet = settled([spec(), spec(base="bursty_strong", load=1.3), spec()])
    knobs = plans(4, 3)
    every, some = Forks(fleet, 4), Forks(fleet, 4, 3)
    every.fork(INTERVALS * 0.5)
    every.set_slos(np.full(12, 0.4), np.inf)
    expected = every.run(knobs, 0.5, COLUMNS)
    for which in ([2], [0, 1, 2], [1, 0]):
        some.fork(INTERVALS * 0.5, which=np.array(which))
        some.set_slos(np.full(4 * len(which), 0.4), np.inf)
        np.testing.assert_array_equal(some.run(knobs[which], 0.5, COLUMNS), expected[which])
