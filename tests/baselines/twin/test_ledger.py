"""What can be known from outside about the requests in a server, beside what is true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from baselines.twin.estimate import Estimate, single
from baselines.twin.hypotheses import Hypotheses
from baselines.twin.lengths import expected_lengths
from baselines.twin.mpc import Mpc
from envs.factory import make_env
from envs.observations import Observation
from envs.scenario import Scenario
from envs.simulator.fleet import Fleet
from envs.simulator.forks import Forks
from envs.telemetry import COLUMN
from envs.workloads.base import RequestChunk

LOADS = [0.4, 0.9, 1.3]


KV_PRESSURE = {
    "model": "mistral_7b",
    "gpu": "a100_sxm4_40gb",
    "server": {"base": "simulated", "tensor_parallel": 1},
    "workload": {"base": "poisson_gsm8k", "load": 1.0, "lengths": "mooncake"},
}
"""Prompts of many steps, and a cache that they fill."""


def followed(
    load: float, intervals: int = 200, **server: int
) -> Iterator[tuple[Estimate, Observation, Any]]:
    """A server at the highest knobs with an estimate of its state."""
    workload = {"base": "poisson_gsm8k", "load": load}
    parts = {"workload": workload, "server": {"base": "simulated", **server}}
    yield from followed_in(Scenario(**parts), intervals)


def followed_in(scenario: Scenario, intervals: int) -> Iterator[tuple[Estimate, Observation, Any]]:
    """The same in any scenario."""
    env = make_env(scenario)
    spec: Any = env.system.server_spec
    settings = Mpc()
    expected = expected_lengths(spec.workload)
    estimate = Estimate(
        env.context, expected, 4, settings.correction, settings.limit, 0.02,
        np.random.default_rng(1),
    )  # fmt: skip
    env.reset(seed=5)
    action = np.array([5, 5])
    for _ in range(intervals):
        encoded, _, _, _, _ = env.step(action)
        observed = env.context.layout.decode(encoded)
        estimate.follow(observed)
        yield estimate, observed, env.system


@pytest.mark.parametrize("load", LOADS)
def test_the_ledger_holds_as_many_requests_as_the_server(load: float) -> None:
    for estimate, observed, _ in followed(load):
        assert len(estimate.ledger) == round(observed.running) + round(observed.waiting)
        assert estimate.ledger.decoding + estimate.ledger.prefilling == round(observed.running)


@pytest.mark.parametrize("load", LOADS)
def test_no_token_is_lost(load: float) -> None:
    """All output tokens are with requests that are there, or with those that have finished."""
    produced = 0.0
    for estimate, observed, _ in followed(load, 120):
        produced += observed.output_tok_s * 0.5
        held = estimate.ledger.requests["generated"].sum()
        assert held <= produced + len(estimate.ledger)


@pytest.mark.parametrize("load", LOADS)
def test_lengths_that_are_right_are_left_alone(load: float) -> None:
    estimate, _, _ = list(followed(load, 400))[-1]
    assert estimate.outputs.scale == pytest.approx(1.0, abs=0.06)
    assert estimate.prompts.scale == pytest.approx(1.0, abs=0.06)


def test_the_oldest_request_that_waits_is_as_old_as_observed() -> None:
    for estimate, observed, _ in followed(1.3, 200):
        requests = estimate.ledger.requests
        waiting = requests[np.isnan(requests["first_s"])]
        if len(waiting):
            age = estimate.now_s - waiting["arrived_s"].min()
            assert age == pytest.approx(observed.oldest_wait_s, abs=0.02)


@pytest.mark.parametrize(
    ("load", "server"),
    [*((load, {}) for load in LOADS), (0.9, {"tensor_parallel": 2, "data_parallel": 2})],
)
def test_predictions_are_right_on_average(load: float, server: dict[str, int]) -> None:
    """Written into simulated servers, the estimate goes on as the real one does.

    The second interval is compared: in the first the step that is under way is missing.
    """
    columns = np.array([COLUMN.output_tokens, COLUMN.energy_gpu_j, COLUMN.kv_cache_usage])
    knobs = np.full((4, 1, 2, 3), np.inf)
    knobs[..., 0], knobs[..., 1] = 400.0, 64.0
    predicted, happened = [], []
    for moment, (estimate, observed, system) in enumerate(followed(load, 260, **server)):
        if moment < 60:
            continue
        if predicted:
            happened.append(system.telemetry_row[0, columns].copy())
        spec = system.server_spec
        fleet = Fleet([spec] * 4, latency=False)
        forks = Forks(fleet, 1)
        hypotheses = Hypotheses(fleet, 4, closed_loop=False)
        kv_tokens = spec.spec.kv_blocks * spec.spec.block_size * spec.spec.replicas
        coming = estimate.future(1.0, closed_loop=False)
        hypotheses.write(
            0, estimate.ledger, estimate.outputs, observed, estimate.now_s, kv_tokens, coming
        )
        forks.fork(1.0)
        predicted.append(forks.run(knobs, 0.5, columns)[:, 0, 1].mean(axis=0))
    expected, true = np.mean(predicted[:-2], axis=0), np.mean(happened[1:], axis=0)
    assert expected == pytest.approx(true, rel=0.08)


def test_no_request_is_lost_when_the_cache_is_full() -> None:
    """Those for which the estimate finds no blocks wait; prompts under way go on."""
    under_way = 0
    for moment, (estimate, observed, system) in enumerate(
        followed_in(Scenario(**KV_PRESSURE), 160)
    ):
        if moment % 20 != 19:
            continue
        spec, ledger = system.server_spec, estimate.ledger
        fleet = Fleet([spec], latency=False)
        kv_tokens = spec.spec.kv_blocks * spec.spec.block_size
        nothing = RequestChunk(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
        Hypotheses(fleet, 1, closed_loop=False).write(
            0, ledger, estimate.outputs, observed, estimate.now_s, kv_tokens, [nothing]
        )
        under_way += float(ledger.requests["computed"].max(initial=0.0)) > 0.0
        row = fleet.advance(0.5, np.arange(1))[0]
        there = row[COLUMN.running] + row[COLUMN.waiting] + row[COLUMN.finished]
        assert there + row[COLUMN.rejected] == len(ledger)
    assert under_way > 0


def test_one_of_several_observations() -> None:
    names = Observation._fields
    both = Observation(*np.arange(2 * len(names), dtype=float).reshape(len(names), 2))
    assert single(both, 1).output_tok_s == 2 * names.index("output_tok_s") + 1


@pytest.mark.parametrize(("behind", "rises"), [(1.0, False), (0.9, True)])
def test_work_that_waits_is_a_violation_where_baseline_delivers_more(
    behind: float, rises: bool
) -> None:
    """In an overload everybody has a queue."""
    estimate, observed, _ = list(followed(1.5, 140))[-1]
    assert observed.waiting > 0.0
    demanded = observed._replace(target_tok_s=2.0 * observed.throughput_tok_s)
    before = estimate.price.factor
    for _ in range(60):
        estimate.evaluate(demanded, behind)
    assert (estimate.price.factor > before) == rises
