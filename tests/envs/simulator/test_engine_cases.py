"""Small cases that pin each part of the engine, against the independent reference.

They are fixed and short enough for plain Python (``NUMBA_DISABLE_JIT=1``), step by step: changes of
the kernel that are made to see whether a test notices are tried on these (``make mutation``).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from support.reference_engine import Job
from support.reference_server import ReferenceServer
from support.server_specs import Given, Request, make_server_spec, numbers, reference_of, unrated

from envs.knobs import Knobs
from envs.latency import bucket_of
from envs.simulator.fleet import Fleet
from envs.simulator.forks import Forks
from envs.simulator.kernel.estimate import place_decoding, place_prefilling
from envs.simulator.kernel.latencies import nearest_rank, sort
from envs.simulator.server import SimulatedServer
from envs.simulator.server_spec import ServerSpec
from envs.telemetry import COLUMN

Script = list[tuple[float, int, float | None]]
"""Power cap, batch limit and clock of each interval."""


def some(seed: int, count: int, every_s: float, prompt: int, output: int) -> list[Request]:
    """Requests of any length up to the longest, one every so often."""
    rng = random.Random(seed)
    return [(i * every_s, rng.randint(1, prompt), rng.randint(1, output)) for i in range(count)]


@dataclass
class Case:
    """A server, its requests and what is asked of it."""

    workload: Given
    server: dict[str, Any]
    script: Script = field(default_factory=lambda: [(400.0, 64, None)] * 4)
    interval_s: float = 0.25
    slos: tuple[float, float] = (math.inf, math.inf)
    warmup_s: float = 0.0

    def started(self) -> tuple[SimulatedServer, ReferenceServer]:
        server_spec = spec(self.workload, **self.server)
        server, reference = SimulatedServer(server_spec), reference_of(server_spec, 0)
        server.reset(0)
        server.set_slos(*self.slos)
        server.set_warmup(self.warmup_s)
        reference.ttft_slo_s, reference.tpot_slo_s = self.slos
        return server, reference


def spec(workload: Given, **server: Any) -> ServerSpec:
    return unrated(make_server_spec(workload, **{"exact_steps": True, **server}))


TIGHT = {"kv_blocks": 24, "block_size": 4, "max_model_len": 90, "max_num_seqs": 8,
         "max_num_batched_tokens": 24}  # fmt: skip
SAME_BUCKET = 1024
"""Between texts whose blocks are looked for in one bucket, of whose number it is a multiple."""
MOVING: Script = [
    (100.0, 8, None), (400.0, 3, None), (150.0, 1, 600.0), (120.0, 8, 1111.0), (400.0, 8, None),
]  # fmt: skip
CASES = {
    "memory runs out, requests are refused": Case(
        Given(some(1, 60, 0.004, 95, 30)),
        {**TIGHT, "max_waiting": 9, "cap_settling_s": 0.15},
        MOVING, 0.06, (0.1, 0.004), 0.03,
    ),
    "a cap that moves under a steady batch": Case(
        Given([(0.0, 200, 400)] * 6),
        {"kv_blocks": 2000, "max_model_len": 700, "model": "olmoe_1b_7b", "cap_settling_s": 0.05},
        [(400.0, 8, None), (100.0, 8, None), (100.0, 8, None), (300.0, 8, 300.0)], 0.1,
    ),
    "a closed loop": Case(
        Given(some(2, 90, 0.0, 60, 20), concurrency=12),
        {**TIGHT, "max_num_seqs": 5}, [(250.0, 5, None), (250.0, 2, None)] * 2, 0.05, (0.05, 0.01),
    ),
    "a closed loop whose requests are refused": Case(
        Given([(0.0, 200, 5)] * 100 + [(0.0, 10, 6)] * 20, concurrency=3),
        {**TIGHT}, [(250.0, 5, None)] * 3, 0.05,
    ),
    "replicas": Case(
        Given(some(3, 60, 0.003, 80, 24)),
        {**TIGHT, "data_parallel": 3, "kv_blocks": 40}, [(300.0, 4, None), (300.0, 2, None)] * 2,
        0.05, (0.04, 0.003),
    ),
    "replicas that step together": Case(
        Given([(0.0, 30, 3), (0.001, 20, 40), *some(4, 14, 0.05, 60, 9)]),
        {**TIGHT, "model": "olmoe_1b_7b", "data_parallel": 2, "expert_parallel": 2,
         "kv_blocks": 40, "prefix_caching": True},
        [(400.0, 8, None), (120.0, 8, None)] * 3, 0.15,
    ),
    "texts that are found again": Case(
        Given(
            [(i * 0.01, 9 + 4 * (i % 9), 1 + 7 * (i % 4)) for i in range(36)],
            texts=[SAME_BUCKET * (i % 5) for i in range(36)], shared_tokens=8,
        ),
        {**TIGHT, "prefix_caching": True, "kv_blocks": 30}, [(400.0, 6, None)] * 6, 0.06,
    ),
    "texts that are found again, short of memory": Case(
        Given(some(5, 40, 0.002, 60, 28), texts=[SAME_BUCKET * (i % 3) for i in range(40)]),
        {**TIGHT, "prefix_caching": True}, [(400.0, 8, None)] * 4, 0.06,
    ),
    "texts that are found again, requests that end together": Case(
        Given(
            [(0.02 * (i // 4), 8 + 4 * (i % 2), 6) for i in range(48)],
            texts=[SAME_BUCKET * ((5 * i + i // 4) % 7) for i in range(48)],
        ),
        {**TIGHT, "prefix_caching": True, "max_num_batched_tokens": 48}, [(400.0, 8, None)] * 5,
        0.06,
    ),
    "texts that are found again, a full batch ends in one step": Case(
        Given(
            [(0.02 * (i // 8), 8 + 4 * (i % 2), 6) for i in range(40)],
            texts=[SAME_BUCKET * ((5 * i + i // 8) % 11) for i in range(40)],
        ),
        {**TIGHT, "prefix_caching": True, "kv_blocks": 48, "max_num_batched_tokens": 96},
        [(400.0, 8, None)] * 3, 0.05,
    ),
    "texts that are found again by the ids of their parts": Case(
        Given(
            [(i * 0.004, 9 + 7 * (i % 4), 2 + i % 5) for i in range(40)],
            texts=[(i, 4 * (i % 3), 100 * (i // 6 % 3)) for i in range(40)],
            ids=[0, 1, 2, 3, 0, 1, 4, 5, 0, 6, 7, 8], part_tokens=8.0,
        ),
        {**TIGHT, "prefix_caching": True, "kv_blocks": 60}, [(400.0, 8, None)] * 4, 0.06,
    ),
    "intervals as long as the sensor's window": Case(
        Given([(0.0, 40, 60), (0.03, 20, 8), (0.07, 60, 20)]),
        {**TIGHT, "kv_blocks": 30}, [(400.0, 8, None)] * 6, 0.0205,
    ),
    "blocks of one token": Case(
        Given(some(6, 12, 0.02, 30, 9)),
        {**TIGHT, "block_size": 1, "kv_blocks": 92}, [(400.0, 8, None)] * 3, 0.1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_number_equals_the_reference(name: str) -> None:
    case = CASES[name]
    server, reference = case.started()
    highest = server.knob_limits.sm_clock_max_mhz
    for cap_w, limit, clock_mhz in case.script:
        server.apply(Knobs(cap_w, limit, clock_mhz))
        reference.apply(cap_w, limit, (clock_mhz or highest) / highest)
        found = numbers(server.advance(case.interval_s))
        assert found == pytest.approx(reference.advance(case.interval_s), rel=1e-9, abs=1e-9)
    same_latencies(server, reference, case.warmup_s)


def same_latencies(server: SimulatedServer, reference: ReferenceServer, warmup_s: float) -> None:
    """Checks the counts over the episode bucket by bucket."""
    now = reference.now
    jobs = [job for job in reference.jobs if job.arrived_s >= warmup_s]
    done = [job for job in jobs if job.finished_s is not None]
    values = {
        "ttft": [(now if job.first_s is None else job.first_s) - job.arrived_s for job in jobs],
        "tpot": [job.tpot_s for job in done if job.tpot_s is not None],
        "e2e": [job.finished_s - job.arrived_s for job in done],
    }
    record = server.latency()
    assert record.finished == len(done)
    for name, seconds in values.items():
        counts = getattr(record, name)
        expected = np.zeros_like(counts)
        for value in seconds:
            expected[bucket_of(value)] += 1
        assert counts.tolist() == expected.tolist(), name
    reference.jobs = jobs
    assert record.slo_overdue == reference.overdue()


def test_steps_taken_at_once_are_those_taken_one_by_one() -> None:
    """All but what one step at an interval's end may move: ends come between two steps."""
    requests = [(0.0, 40, 120), (0.02, 7, 60), (0.3, 30, 33)]
    totals = []
    for exact in (True, False):
        server = SimulatedServer(spec(Given(requests), kv_blocks=400, exact_steps=exact))
        server.reset(0)
        rows = [numbers(server.advance(0.5)) for _ in range(3)]
        totals.append({key: sum(row[key] for row in rows) for key in rows[0]})
        assert sum(row["finished"] for row in rows) == 3
    for key in ("prompt_tokens", "output_tokens", "arrivals"):
        assert totals[0][key] == totals[1][key]
    assert totals[1]["energy_gpu_j"] == pytest.approx(totals[0]["energy_gpu_j"], rel=1e-4)


def test_replicas_that_step_together_take_runs_that_fit_all_of_them() -> None:
    """The other engine's request ends long before the first one's, and fills blocks of its own."""
    requests = [(0.0, 20, 150), (0.0, 30, 21), (0.0, 9, 90), (0.0, 11, 64)]
    server: dict[str, Any] = {
        **TIGHT, "kv_blocks": 200, "max_model_len": 200, "model": "olmoe_1b_7b",
        "data_parallel": 2, "expert_parallel": 2,
    }  # fmt: skip
    made = [SimulatedServer(spec(Given(requests), **server, exact_steps=e)) for e in (True, False)]
    for one in made:
        one.reset(0)
    for _ in range(12):
        exact, at_once = (numbers(one.advance(0.1)) for one in made)
        for name in ("finished", "running", "waiting", "prompt_tokens"):
            assert at_once[name] == exact[name]
        assert at_once["output_tokens"] == pytest.approx(exact["output_tokens"], abs=4)
        assert at_once["kv_cache_usage"] == pytest.approx(exact["kv_cache_usage"], abs=0.01)
        assert at_once["e2e_p50_s"] == pytest.approx(exact["e2e_p50_s"], rel=2e-4)
    assert made[1].engine_steps == pytest.approx(made[0].engine_steps, abs=16)


def test_a_window_longer_than_what_is_noted_goes_back_as_far_as_that() -> None:
    """Of many short intervals the energy at the last 32 is known: the mean is over these."""
    server, reference = Case(Given(some(8, 60, 0.002, 40, 9)), TIGHT).started()
    interval_s = 0.00053
    window_s = reference.facts.sensor_window_s
    reference.facts.sensor_window_s = 31 * interval_s + window_s % interval_s
    assert window_s > 36 * interval_s
    for turn in range(70):
        found, expected = numbers(server.advance(interval_s)), reference.advance(interval_s)
        if turn > 34:
            assert found["power_w"] == pytest.approx(expected["power_w"], rel=1e-9)


def test_a_run_of_steps_ends_where_the_memory_does() -> None:
    """Two requests of one block each grow until the cache is full; then the newer one gives way."""
    for exact in (True, False):
        server = SimulatedServer(
            spec(Given([(0.0, 4, 20), (0.0, 4, 20)]), kv_blocks=6, block_size=4, max_model_len=24,
                 exact_steps=exact)
        )  # fmt: skip
        server.reset(0)
        row = server.advance(2.0)
        assert (row.preemptions, row.finished, row.output_tokens) == (1, 2, 40)


@pytest.mark.parametrize("blocks", [11, 12])
def test_a_run_of_steps_does_not_pass_the_end_of_the_memory(blocks: int) -> None:
    """Three requests that need their next blocks at different steps: each preemption counts."""
    rows = []
    for exact in (True, False):
        server = SimulatedServer(
            spec(Given([(0.0, 5, 30), (0.0, 6, 30), (0.0, 7, 30)]), kv_blocks=blocks,
                 block_size=4, max_model_len=40, exact_steps=exact)
        )  # fmt: skip
        server.reset(0)
        rows.append(server.advance(2.0))
    assert rows[0].preemptions == rows[1].preemptions >= 3
    assert rows[1].e2e_p99_s == pytest.approx(rows[0].e2e_p99_s, rel=1e-5)
    assert rows[1].e2e_p50_s == pytest.approx(rows[0].e2e_p50_s, rel=1e-5)


def test_steps_that_the_cap_does_not_hold_are_taken_at_once() -> None:
    """All that one request decodes after its first two tokens; step by step, one at a time."""
    for exact, taken in ((True, 1), (False, 58)):
        server = SimulatedServer(spec(Given([(0.0, 20, 60)]), kv_blocks=400, exact_steps=exact))
        server.reset(0)
        assert server.advance(1.0).finished == 1
        assert int(server._fleet.states._engines[0].steps_in_flight[0]) == taken


def test_placed_requests_go_on_from_where_they_are() -> None:
    """As the reference does whose requests were put there by hand."""
    for caching in (False, True):
        case = Case(
            Given([(1.1, 9, 5)]),
            {**TIGHT, "data_parallel": 2, "kv_blocks": 30, "prefix_caching": caching},
        )
        server, reference = case.started()
        server.advance(1.0)
        reference.advance(1.0)
        address = int(server._fleet.addresses[0])
        had = np.array([[10, 3, 9], [21, 1, 2], [6, 7, 12]])
        arrived, first = np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5, 0.6])
        assert place_decoding(address, *np.ascontiguousarray(had.T), arrived, first) == 3
        assert place_prefilling(address, 1, 40, 13, 6, 0.9)
        for index, (prompt, generated, output) in enumerate(had.tolist()):
            job = Job(arrived[index], prompt, output, generated=generated, goal=prompt)
            job.first_s, job.seen_prompt = first[index], prompt
            put(reference, index % 2, job, prompt + generated - 1)
        coming = Job(0.9, 40, 6, goal=40, seen_prompt=13)
        put(reference, 1, coming, 13)
        for _ in range(4):
            found = numbers(server.advance(0.05))
            expected = reference.advance(0.05)
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert server.latency().finished >= 4


def put(reference: ReferenceServer, index: int, job: Job, computed: int) -> None:
    engine = reference.engines[index]
    job.texts = lambda place: (id(job), place)
    assert engine._allocate(job, computed)
    job.computed = computed
    engine.running.append(job)
    reference.jobs.append(job)


def test_there_is_no_room_for_more_than_the_memory_holds() -> None:
    server, _ = Case(Given([(9.0, 5, 5)]), {**TIGHT, "kv_blocks": 23}).started()
    server.advance(1.0)
    address = int(server._fleet.addresses[0])
    many = np.full(9, 15)
    placed = place_decoding(address, many, many * 0 + 1, many * 0 + 9, many * 0.0, many * 0.0)
    assert placed == 5  # 4 blocks each, with room for the token to come
    assert not place_prefilling(address, 0, 30, 13, 2, 0.0)
    assert place_prefilling(address, 0, 30, 12, 2, 0.0)
    row = server.advance(1e-6)  # the prompt needs a block for its rest, and gives way
    assert (row.preemptions, row.running, row.waiting) == (1, 5, 1)
    assert row.kv_cache_usage == 20 / 23


def test_copies_do_what_the_server_does() -> None:
    """Two servers, each with copies; the second copy's plan is then followed by the servers."""
    requests = some(7, 60, 0.005, 60, 20)
    fleet = Fleet([spec(Given(requests), **TIGHT), spec(Given(requests[::2]), **TIGHT)])
    for index in range(2):
        fleet.reset(index, 0)
    fleet.apply(Knobs(np.array([300.0, 200.0]), np.array([6, 5]), None))
    fleet.advance(0.1, np.arange(2))
    forks = Forks(fleet, 2)
    forks.fork(1.0)
    knobs = np.full((2, 2, 3, 3), np.inf)
    knobs[..., 0] = [[[100.0, 300.0, 200.0], [400.0, 150.0, 250.0]]] * 2
    knobs[..., 1] = [[[2.0, 6.0, 1.0], [8.0, 3.0, 5.0]]] * 2
    knobs[1, 1, :, 2] = 900.0
    columns = np.array([COLUMN.output_tokens, COLUMN.energy_gpu_j, COLUMN.waiting, COLUMN.time_s])
    tried = forks.run(knobs, 0.1, columns)
    for interval in range(3):
        cap, seqs, clock = (knobs[:, 1, interval, i] for i in range(3))
        fleet.apply(Knobs(cap, seqs, clock))
        fleet.advance(0.1, np.arange(2))
        assert tried[:, 1, interval].tolist() == fleet.telemetry[:, columns].tolist()
    assert tried[0, 0].tolist() != tried[0, 1].tolist()


def test_a_saved_state_goes_on_as_the_server_did() -> None:
    server, reference = CASES["texts that are found again"].started()
    server.advance(0.06)
    saved = server.snapshot()
    after = [numbers(server.advance(0.06)) for _ in range(3)]
    counted = server.latency()
    server.restore(saved)
    assert [numbers(server.advance(0.06)) for _ in range(3)] == after
    assert server.latency().ttft.tolist() == counted.ttft.tolist()
    forked = server.fork()
    assert numbers(forked.advance(0.06)) == numbers(server.advance(0.06))
    for _ in range(5):
        reference.advance(0.06)
    same_latencies(server, reference, 0.0)


def in_python(function: Any) -> Any:
    """Returns a part of an entry point as Python runs it: compiled, it is called by others only."""
    return getattr(function, "py_func", function)


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 40, 130])
def test_values_are_sorted_up_to_a_count(count: int) -> None:
    values = np.random.default_rng(count).uniform(size=count + 3)
    kept = values[count:].tolist()
    expected = sorted(values[:count].tolist())
    in_python(sort)(values, count)
    assert values.tolist() == expected + kept


def test_a_rank_is_the_nearest_one_from_one() -> None:
    rank = in_python(nearest_rank)
    assert [rank(q, 10) for q in (0.0, 0.05, 0.5, 0.51, 0.99, 1.0)] == [1, 1, 5, 6, 10, 10]


def test_the_cases_reach_what_they_are_meant_for() -> None:
    total: dict[str, dict[str, float]] = {}
    for name, case in CASES.items():
        server, _ = case.started()
        rows = []
        for cap_w, limit, clock_mhz in case.script:
            server.apply(Knobs(cap_w, limit, clock_mhz))
            rows.append(numbers(server.advance(case.interval_s)))
        total[name] = {key: sum(row[key] for row in rows) for key in rows[0]}
    first, refused = (
        total["memory runs out, requests are refused"],
        total["a closed loop whose requests are refused"],
    )
    assert min(first[key] for key in ("preemptions", "rejected", "slo_missed", "slo_overdue")) > 0
    assert total["a cap that moves under a steady batch"]["cap_binding"] > 0.5
    assert refused["rejected"] == 100
    assert total["replicas"]["finished"] > 20
    for name in total:
        if name.startswith("texts"):
            assert total[name]["prefix_cache_hits"] > 0
    assert total["texts that are found again, short of memory"]["preemptions"] > 0
