"""The compiled engine against an independent reference, over random settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference_server import ReferenceServer
from support.server_specs import Given, make_server_spec, numbers, reference_of

from envs.knobs import Knobs
from envs.latency import LATENCY_RATIO, percentile
from envs.simulator.server import SimulatedServer
from envs.simulator.server_spec import ServerSpec
from envs.workloads.base import Workload
from envs.workloads.closed_loop import ClosedLoop
from envs.workloads.lengths import Lengths, Quantiles
from envs.workloads.poisson import Poisson

MODELS = {"gpt2": 1, "olmoe_1b_7b": 1, "mixtral_8x7b": 4}
"""Models and their tensor-parallel sizes: small, many experts, few experts on four GPUs."""


@dataclass
class Case:
    """A server, a workload and what is asked of it."""

    workload: Workload
    server: dict[str, Any]
    script: list[tuple[Knobs, float]]
    slos: tuple[float, float]
    seed: int

    def server_spec(self, exact: bool) -> ServerSpec:
        return make_server_spec(self.workload, exact_steps=exact, **self.server)


def lengths(prompt: tuple[int, int], output: tuple[int, int]) -> Lengths:
    def between(bounds: tuple[int, int]) -> Quantiles:
        return Quantiles(probabilities=[0.0, 1.0], tokens=[float(b) for b in bounds])

    return Lengths(prompt=between(prompt), output=between(output))


@st.composite
def cases(draw: st.DrawFn, intervals: int = 12, regular: bool = False) -> Case:
    """Servers of any kind; ``regular``: one engine with room, and requests that come anyway."""
    model = draw(st.sampled_from(sorted(MODELS)))
    block_size = draw(st.sampled_from([1, 3, 8, 16]))
    context = draw(st.integers(40, 900))
    # Between one request of the longest kind and many: most of these caches run out.
    kv_blocks = math.ceil(context / block_size) + draw(st.integers(0, 2000 // block_size))
    max_num_seqs = draw(st.integers(1, 48))
    prompt = sorted(draw(st.tuples(st.integers(1, context), st.integers(1, context // 2))))
    output = sorted(draw(st.tuples(st.integers(1, context // 2), st.integers(1, 100))))
    sizes = lengths((prompt[0], prompt[1]), (output[0], output[1]))
    workload: Workload
    spoken: dict[str, Any] = {}
    caching = draw(st.booleans())
    if caching and draw(st.booleans()):
        spoken = {
            "turns": draw(st.sampled_from([1.5, 4.0, 20.0])),
            "sessions": draw(st.integers(1, 20)),
            "max_history_tokens": context // 2,
        }
    if regular or draw(st.booleans()):
        workload = Poisson(rate=draw(st.floats(0.5, 60.0)), lengths=sizes, **spoken)
    else:
        workload = ClosedLoop(concurrency=draw(st.integers(1, 100)), lengths=sizes, **spoken)
    knobs = st.builds(
        Knobs,
        st.sampled_from([100.0, 120.0, 150.0, 217.0, 300.0, 400.0]),
        st.integers(1, max_num_seqs),
        st.sampled_from([None, None, 210.0, 600.0, 1111.0, 1410.0]),
    )
    step = st.tuples(knobs, st.sampled_from([0.05, 0.31, 0.5, 1.7]))
    replicas = 1 if regular else draw(st.sampled_from([1, 1, 1, 2, 3]))
    # Either each replica has experts of its own, or all of them hold them together.
    together = model != "gpt2" and draw(st.booleans())
    return Case(
        workload=workload,
        server={
            "model": model,
            "tensor_parallel": MODELS[model],
            "kv_blocks": 200_000 if regular else kv_blocks,
            "block_size": block_size,
            "max_model_len": context,
            "max_num_seqs": max_num_seqs,
            "max_num_batched_tokens": max_num_seqs + draw(st.integers(0, 600)),
            "data_parallel": replicas,
            "expert_parallel": MODELS[model] * replicas if together else 1,
            "prefix_caching": caching,
            "max_waiting": 65_536 if regular else draw(st.sampled_from([65_536, 65_536, 10])),
            "cap_settling_s": draw(st.sampled_from([0.0, 0.15, 1.0])),
        },
        script=draw(st.lists(step, min_size=intervals, max_size=intervals)),
        slos=draw(st.sampled_from([(math.inf, math.inf), (0.2, 0.02), (math.inf, 0.004)])),
        seed=draw(st.integers(0, 2**32)),
    )


def start(case: Case, exact: bool) -> tuple[SimulatedServer, ReferenceServer]:
    server_spec = case.server_spec(exact)
    server, reference = SimulatedServer(server_spec), reference_of(server_spec, case.seed)
    server.reset(case.seed)
    server.set_slos(*case.slos)
    reference.ttft_slo_s, reference.tpot_slo_s = case.slos
    return server, reference


def apply(server: SimulatedServer, reference: ReferenceServer, knobs: Knobs) -> None:
    server.apply(knobs)
    limits = server.knob_limits
    clock = knobs.sm_clock_mhz or limits.sm_clock_max_mhz
    reference.apply(knobs.power_cap_w, knobs.max_num_seqs, clock / limits.sm_clock_max_mhz)


@settings(max_examples=40)
@given(cases())
def test_every_field_equals_the_reference_step_by_step(case: Case) -> None:
    server, reference = start(case, exact=True)
    for knobs, seconds in case.script:
        apply(server, reference, knobs)
        expected, found = reference.advance(seconds), numbers(server.advance(seconds))
        del expected["power_w"], found["power_w"]  # exact where intervals are equally long
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=20)
@given(cases(), st.sampled_from([0.05, 0.31, 0.5, 1.7]))
def test_the_sensor_shows_the_mean_over_its_window(case: Case, seconds: float) -> None:
    """At intervals of any length, as long as it stays: shorter than the window or longer."""
    server, reference = start(case, exact=True)
    for knobs, _ in case.script:
        apply(server, reference, knobs)
        expected = reference.advance(seconds)["power_w"]
        assert server.advance(seconds).power_w == pytest.approx(expected, rel=1e-9)


TOTALS = ("energy_gpu_j", "prompt_tokens", "output_tokens", "finished")


def totals(case: Case) -> tuple[dict[str, float], dict[str, float]]:
    """Sums over the script: equal steps taken at once, and each taken by itself."""
    server, reference = start(case, exact=False)
    found, expected = dict.fromkeys(TOTALS, 0.0), dict.fromkeys(TOTALS, 0.0)
    for knobs, seconds in case.script:
        apply(server, reference, knobs)
        ours, theirs = numbers(server.advance(seconds)), reference.advance(seconds)
        for name in TOTALS:
            found[name] += ours[name]
            expected[name] += theirs[name]
        assert ours["arrivals"] == theirs["arrivals"] or case.workload.concurrency
    return found, expected


def slack(case: Case) -> dict[str, float]:
    """What one step at the very end may move from one side of the last interval to the other."""
    running = case.server["data_parallel"] * case.server["max_num_seqs"]
    return {
        "energy_gpu_j": 0,
        "prompt_tokens": case.server["data_parallel"] * case.server["max_num_batched_tokens"],
        "output_tokens": running,
        "finished": running,
    }


@settings(max_examples=20)
@given(cases(intervals=40, regular=True))
def test_equal_steps_taken_at_once_hardly_change_totals(case: Case) -> None:
    found, expected = totals(case)
    for name, allowed in slack(case).items():
        assert found[name] == pytest.approx(expected[name], rel=2e-4, abs=allowed), name


SENSITIVE: dict[str, tuple[Workload, dict[str, Any]]] = {
    "closed loop, full cache": (
        ClosedLoop(concurrency=45, lengths=lengths((61, 141), (96, 128))),
        {"kv_blocks": 904, "max_num_seqs": 30, "max_num_batched_tokens": 284},
    ),
    "replicas": (
        Poisson(rate=20.0, lengths=lengths((61, 141), (96, 128))),
        {"kv_blocks": 3000, "max_num_seqs": 8, "data_parallel": 3, "expert_parallel": 12},
    ),
    "queue that overflows, cached prefixes": (
        Poisson(rate=25.0, lengths=lengths((61, 141), (96, 128)), turns=4.0, sessions=10),
        {"kv_blocks": 1200, "max_waiting": 10, "prefix_caching": True},
    ),
}
"""Where what ends a moment later changes which request is admitted, preempted or sent next."""


@pytest.mark.parametrize("name", SENSITIVE)
def test_equal_steps_taken_at_once_favour_no_side(name: str) -> None:
    """Episodes part from one another there; over many, neither way has more of anything."""
    workload, server = SENSITIVE[name]
    apart = []
    for seed in range(24):
        case = Case(
            workload=workload,
            server={
                "model": "mixtral_8x7b", "tensor_parallel": 4, "block_size": 1,
                "max_model_len": 283, "max_num_seqs": 16, "max_num_batched_tokens": 300,
                "data_parallel": 1, "cap_settling_s": 0.0,
            } | server,
            script=[(Knobs(cap, 8, None), 0.5) for cap in (100.0, 300.0, 150.0, 217.0) * 3],
            slos=(math.inf, math.inf),
            seed=seed,
        )  # fmt: skip
        found, expected = totals(case)
        apart.append([found[name] / expected[name] - 1.0 for name in TOTALS])
    mean, error = np.mean(apart, axis=0), np.std(apart, axis=0, ddof=1) / math.sqrt(len(apart))
    assert (np.abs(mean) <= 1e-3 + 3.0 * error).all(), dict(zip(TOTALS, mean, strict=True))
    assert (error <= 1e-2).all()


def test_the_cases_reach_the_corners_they_are_meant_for() -> None:
    """Preemption, rejection, a full queue and a binding cap occur; else the tests prove little."""
    sizes = lengths((20, 150), (20, 120))
    case = Case(
        workload=Poisson(rate=60.0, lengths=sizes),
        server={
            "model": "olmoe_1b_7b", "tensor_parallel": 1, "kv_blocks": 60, "block_size": 8,
            "max_model_len": 250, "max_num_seqs": 16, "max_num_batched_tokens": 64,
            "data_parallel": 1, "cap_settling_s": 0.15,
        },
        script=[(Knobs(100.0, 16, None), 0.5), (Knobs(400.0, 4, None), 0.5)] * 6,
        slos=(0.2, 0.02),
        seed=1,
    )  # fmt: skip
    server, reference = start(case, exact=True)
    rows = []
    for knobs, seconds in case.script:
        apply(server, reference, knobs)
        rows.append(numbers(server.advance(seconds)))
        assert rows[-1] == pytest.approx(reference.advance(seconds), rel=1e-9, abs=1e-9)
    total = {name: sum(row[name] for row in rows) for name in rows[0]}
    assert total["preemptions"] > 10
    assert total["rejected"] > 5
    assert total["slo_missed"] > 0
    assert total["slo_overdue"] > 0
    assert max(row["cap_binding"] for row in rows) > 0.5
    assert rows[-1]["waiting"] > 100
    assert max(job.preemptions for job in reference.jobs) > 1


@settings(max_examples=20)
@given(cases(), st.floats(0.0, 3.0))
def test_the_episodes_latencies_equal_brute_force(case: Case, warmup_s: float) -> None:
    server, reference = start(case, exact=True)
    server.set_warmup(warmup_s)
    for knobs, seconds in case.script:
        apply(server, reference, knobs)
        server.advance(seconds)
        reference.advance(seconds)
    now = reference.now
    jobs = [job for job in reference.jobs if job.arrived_s >= warmup_s]
    done = [job for job in jobs if job.finished_s is not None]
    samples = {
        "ttft": [(now if job.first_s is None else job.first_s) - job.arrived_s for job in jobs],
        "tpot": [job.tpot_s for job in done if job.tpot_s is not None],
        "e2e": [job.finished_s - job.arrived_s for job in done],
    }
    record = server.latency()
    assert record.finished == len(done)
    for name, values in samples.items():
        counts = getattr(record, name)
        assert counts.sum() == len(values)
        for q in (50.0, 95.0, 99.0):
            if not values:
                assert percentile(counts, q) is None
                continue
            exact = max(1e-4, float(np.percentile(values, q, method="inverted_cdf")))
            assert percentile(counts, q) == pytest.approx(exact, rel=LATENCY_RATIO - 1.0)
    ttft_slo, tpot_slo = case.slos
    missed = [
        job for job in done
        if job.first_s - job.arrived_s > ttft_slo or (job.tpot_s or 0.0) > tpot_slo
    ]  # fmt: skip
    assert record.slo_missed == len(missed)
    reference.jobs = jobs
    assert record.slo_overdue == reference.overdue()


def test_many_servers_in_one_call_equal_each_by_itself() -> None:
    from envs.simulator.fleet import Fleet

    workloads: list[Workload] = [
        Poisson(rate=30.0, lengths=lengths((10, 200), (5, 60))),
        ClosedLoop(concurrency=20, lengths=lengths((1, 50), (50, 90))),
        Given([(0.1 * i, 30, 20) for i in range(40)]),
    ]
    server_specs = [
        make_server_spec(w, kv_blocks=80, max_num_seqs=8 * i + 4) for i, w in enumerate(workloads)
    ]
    fleet = Fleet(server_specs)
    alone = [SimulatedServer(server_spec) for server_spec in server_specs]
    for index, server in enumerate(alone):
        fleet.reset(index, 5 + index)
        server.reset(5 + index)
    for turn in range(8):
        caps = np.array([100.0 + 40 * turn, 400.0, 250.0])
        seqs = np.array([4 - turn % 3, 9, 20])
        fleet.apply(Knobs(caps, seqs, None))
        rows = fleet.advance(0.4)
        for index, server in enumerate(alone):
            server.apply(Knobs(caps[index], int(seqs[index]), None))
            assert list(numbers(server.advance(0.4)).values()) == rows[index].tolist()
