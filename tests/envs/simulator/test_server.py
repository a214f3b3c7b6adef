"""What must hold of a simulated server: conservation, power and caps, seeds, replicas."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.server_specs import Given, make_server, make_server_spec, numbers

from envs.knobs import Knobs
from envs.simulator.server import SimulatedServer
from envs.system import ServingSystem
from envs.telemetry import Telemetry
from envs.workloads.poisson import Poisson

FOUR_A100: dict[str, Any] = {"model": "mixtral_8x7b", "tensor_parallel": 4}
ONE_H100: dict[str, Any] = {
    "model": "olmoe_1b_7b",
    "gpu": "h100_sxm",
    "max_num_batched_tokens": 512,  # longer prompts' steps draw more than any cap allows
}
BUSY = {"base": "closed_loop", "concurrency": 64}
CALM = {"base": "poisson_gsm8k", "load": 0.4}


def episode(
    server: SimulatedServer, knobs: Knobs | None = None, seconds: float = 30.0, every_s: float = 0.5
) -> list[Telemetry]:
    server.reset(7)
    if knobs is not None:
        server.apply(knobs)
    return [server.advance(every_s) for _ in range(round(seconds / every_s))]


def total(rows: list[Telemetry], name: str) -> float:
    return math.fsum(getattr(row, name) for row in rows)


def at_cap(cap_w: float, clock: float | None = None) -> Knobs:
    return Knobs(cap_w, 64, clock)


def test_it_is_a_serving_system() -> None:
    server = make_server(CALM)
    assert isinstance(server, ServingSystem)
    first = server.reset(0)
    assert first.time_s == first.energy_gpu_j == first.output_tokens == 0.0
    assert first.power_w == server.server_spec.gpu.idle_power_w
    assert (first.power_cap_w, first.max_num_seqs) == (400.0, 64)


# ------------------------------------------------------------------------ conservation


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**40),
    kv_blocks=st.integers(64, 300),
    load=st.floats(0.2, 3.0),
    script=st.lists(
        st.tuples(st.floats(100.0, 400.0), st.integers(1, 32), st.floats(0.01, 2.0)),
        min_size=20,
        max_size=20,
    ),
)
def test_requests_tokens_and_blocks_are_conserved_at_every_interval(
    seed: int, kv_blocks: int, load: float, script: list[tuple[float, int, float]]
) -> None:
    server = make_server(
        {"base": "poisson_gsm8k", "load": load}, kv_blocks=kv_blocks, max_num_seqs=32
    )
    server.reset(seed)
    arrived = finished = rejected = tokens = 0.0
    for cap_w, seqs, seconds in script:
        server.apply(Knobs(cap_w, seqs, None))
        row = server.advance(seconds)
        arrived += row.arrivals
        finished += row.finished
        rejected += row.rejected
        tokens += row.output_tokens
        assert arrived == finished + rejected + row.running + row.waiting
        assert 0.0 <= row.kv_cache_usage <= 1.0
        assert (row.kv_cache_usage == 0.0) == (row.running == 0)
        assert tokens >= finished
        assert row.duration_s == pytest.approx(seconds)
        assert row.energy_gpu_j >= 0.0
        assert all(math.isfinite(value) for value in numbers(row).values())


def test_all_that_arrives_is_computed_once_though_it_is_preempted() -> None:
    rng = np.random.default_rng(0)
    requests = [
        (0.01 * index, int(rng.integers(20, 200)), int(rng.integers(2, 200)))
        for index in range(150)
    ]
    server = make_server(Given(requests), kv_blocks=60, max_num_seqs=16)
    rows = episode(server, seconds=120.0)
    assert total(rows, "preemptions") > 20
    assert total(rows, "finished") == len(requests)
    assert total(rows, "prompt_tokens") == sum(prompt for _, prompt, _ in requests)
    assert total(rows, "output_tokens") == sum(output for _, _, output in requests)
    last = rows[-1]
    assert (last.running, last.waiting, last.kv_cache_usage) == (0, 0, 0.0)


def test_how_often_one_looks_changes_nothing() -> None:
    """Sums over short intervals equal those over long ones, when steps are taken one by one."""
    server = make_server(CALM, exact_steps=True, **FOUR_A100)
    often = episode(server, at_cap(180.0), every_s=0.1)
    seldom = episode(server, at_cap(180.0), every_s=3.0)
    for name in ("prompt_tokens", "output_tokens", "arrivals", "finished"):
        assert total(often, name) == total(seldom, name)
    for name in ("energy_gpu_j", "energy_system_j"):
        assert total(often, name) == pytest.approx(total(seldom, name), rel=1e-9)


def test_system_energy_is_the_nodes() -> None:
    """alpha times GPU energy plus beta a node: two nodes for eight GPUs."""
    server = make_server(
        CALM, model="mixtral_8x7b", tensor_parallel=8, system_alpha=1.1, system_beta_w=300.0
    )
    row = episode(server)[-1]
    assert row.energy_system_j == pytest.approx(1.1 * row.energy_gpu_j + 2 * 300.0 * 0.5)
    assert sum(row.gpu_power_w) == pytest.approx(row.power_w)
    assert len(row.gpu_power_w) == 8
    assert len(set(row.gpu_power_w)) == 8, "no two devices draw the same"


# -------------------------------------------------------------------------- power, caps


def test_an_idle_server_draws_idle_power() -> None:
    server = make_server(Given([(50.0, 10, 10)]), **FOUR_A100)
    rows = episode(server, at_cap(150.0), seconds=49.0)
    idle_w = 4 * server.server_spec.gpu.idle_power_w
    assert all(row.energy_gpu_j == pytest.approx(0.5 * idle_w) for row in rows)
    assert all(row.power_w == pytest.approx(idle_w) for row in rows)
    assert all(row.cap_binding == row.running == row.output_tokens == 0 for row in rows)
    assert server.advance(3.0).energy_gpu_j > 3.0 * idle_w


@pytest.mark.parametrize("hardware", [FOUR_A100, ONE_H100], ids=["a100", "h100"])
@pytest.mark.parametrize("workload", [BUSY, CALM], ids=["busy", "calm"])
def test_a_cap_above_the_natural_draw_changes_nothing_at_all(
    hardware: dict[str, Any], workload: dict[str, Any]
) -> None:
    """The null control, bit for bit: in speed and in power, with the cap moving all the time."""
    server = make_server(workload, **hardware)
    highest = server.knob_limits.power_cap_max_w
    free = episode(server)
    assert total(free, "cap_binding") == 0.0
    natural_w = max(row.power_w for row in free) / server.num_gpus
    enough_w = next(
        cap for cap in np.arange(natural_w, highest, 5.0)
        if total(episode(server, at_cap(float(cap))), "cap_binding") == 0.0
    )  # fmt: skip
    assert enough_w < highest - 5.0, "this GPU has no cap above its natural draw"
    server.reset(7)
    for index, expected in enumerate(free):
        server.apply(at_cap(float(enough_w) if index % 2 else highest - 3.0))
        found = server.advance(0.5)
        differing = {
            name for name, value in numbers(found).items() if value != numbers(expected)[name]
        }
        assert differing <= {"power_cap_w"}


@pytest.mark.parametrize("hardware", [FOUR_A100, ONE_H100], ids=["a100", "h100"])
@pytest.mark.parametrize("workload", [BUSY, CALM], ids=["busy", "calm"])
def test_a_lower_cap_never_raises_power_and_never_speeds_up(
    hardware: dict[str, Any], workload: dict[str, Any]
) -> None:
    server = make_server(workload, **hardware)
    limits = server.knob_limits
    caps = np.linspace(limits.power_cap_max_w, limits.power_cap_min_w, 13)
    runs = [episode(server, at_cap(float(cap))) for cap in caps]
    energy = [total(rows, "energy_gpu_j") for rows in runs]
    tokens = [total(rows, "output_tokens") for rows in runs]
    clocks = [total(rows, "sm_clock_mhz") for rows in runs]
    for name, series, slack in [("energy", energy, 1e-9), ("clock", clocks, 1e-3)]:
        ratios = np.array(series[1:]) / np.array(series[:-1])
        assert ratios.max() <= 1.0 + slack, f"{name} rose as the cap fell: {ratios}"
    # The last step lies before or behind the end, with a token for each request that runs.
    one_step = max(row.running for row in runs[-1])
    assert np.diff(tokens).max() <= one_step, f"tokens rose as the cap fell: {tokens}"
    assert energy[-1] < 0.8 * energy[0]


def test_power_stays_under_a_cap_that_has_settled() -> None:
    server = make_server(BUSY, **FOUR_A100)
    for cap_w in (240.0, 200.0, 150.0):
        settled = episode(server, at_cap(cap_w))[6:]
        assert max(row.energy_gpu_j for row in settled) <= 4 * cap_w * 0.5 * (1 + 1e-9)


def test_a_cap_takes_hold_with_its_time_constant() -> None:
    server = make_server(BUSY, cap_settling_s=1.0, exact_steps=True, **FOUR_A100)
    server.reset(0)
    server.apply(at_cap(200.0))
    server.advance(20.0)
    server.apply(at_cap(150.0))
    watts = [server.advance(0.1).energy_gpu_j / 0.1 / 4 for _ in range(100)]
    times = 0.1 * np.arange(100) + 0.05
    expected = 150.0 + 50.0 * np.exp(-times)
    # A step keeps the power it began with, so the reading lags by a step at most.
    np.testing.assert_allclose(watts[:40], expected[:40], atol=3.0)
    assert watts[-1] == pytest.approx(150.0, abs=1e-6)
    server.apply(at_cap(200.0))
    assert server.advance(0.1).energy_gpu_j < 4 * 160.0 * 0.1, "up takes as long as down"


def test_the_sensor_averages_and_the_energy_does_not() -> None:
    server = make_server(Given([(5.0, 50, 900)] * 8), **ONE_H100)
    rows = episode(server, seconds=12.0)
    exact = np.array([row.energy_gpu_j / 0.5 for row in rows])
    shown = np.array([row.power_w for row in rows])
    assert server.server_spec.coefficients.sensor_window_s == 1.0, "two intervals"
    np.testing.assert_allclose(shown[1:], 0.5 * (exact[1:] + exact[:-1]))
    jump = int(np.argmax(np.diff(exact))) + 1
    assert exact[jump - 1] < shown[jump] < exact[jump], "the sensor is late"


def test_a_clock_limit_slows_down_and_saves_power() -> None:
    server = make_server(BUSY, **FOUR_A100)
    free, locked = (episode(server, at_cap(400.0, clock)) for clock in (None, 900.0))
    assert total(locked, "output_tokens") < total(free, "output_tokens")
    assert total(locked, "energy_gpu_j") < total(free, "energy_gpu_j")
    assert all(row.sm_clock_mhz <= 900.0 + 1e-6 for row in locked)
    assert total(locked, "cap_binding") == 0.0


# ----------------------------------------------------------------------------- latency


def test_a_request_that_starves_shows_in_ttft_with_its_age() -> None:
    requests = [(0.0, 20, 1000), (1.0, 20, 10)]
    server = make_server(Given(requests), max_num_seqs=1, **FOUR_A100)
    server.reset(0)
    server.advance(1.0)
    for second in range(1, 6):
        row = server.advance(1.0)
        assert row.waiting == row.ttft_samples == 1
        assert row.ttft_p50_s == row.oldest_wait_s == pytest.approx(second)
        assert server.latency().ttft.sum() == 2


def test_percentiles_are_those_of_all_requests_of_the_interval() -> None:
    """One batch of equal requests that finish in one interval: all percentiles by hand."""
    server = make_server(Given([(0.0, 10, 2 + index) for index in range(10)]), exact_steps=True)
    row = episode(server, seconds=5.0, every_s=5.0)[0]
    fine = episode(server, seconds=1.0, every_s=1e-4)
    ends = [moment.time_s for moment in fine for _ in range(int(moment.finished))]
    assert row.e2e_samples == 10
    assert row.e2e_p50_s == pytest.approx(ends[4], abs=1e-4)
    assert row.e2e_p95_s == row.e2e_p99_s == pytest.approx(ends[9], abs=1e-4)
    assert row.ttft_p50_s == row.ttft_p99_s


def test_missed_slos_are_counted_once_a_request() -> None:
    """Four at a time: the second four miss the TTFT SLO, and all miss an absurd TPOT SLO."""
    server = make_server(Given([(0.0, 20, 50)] * 8), max_num_seqs=4)
    server.reset(0)
    server.set_slos(0.05, math.inf)
    rows = [server.advance(0.01) for _ in range(200)]
    assert total(rows, "finished") == 8
    assert total(rows, "slo_missed") == server.latency().slo_missed == 4
    assert max(row.slo_overdue for row in rows) == 4
    assert rows[-1].slo_overdue == 0
    assert server.latency().slo_violation_rate == 0.5
    server.reset(0)
    server.set_slos(0.05, 1e-6)
    assert total([server.advance(1.0), server.advance(1.0)], "slo_missed") == 8


def test_an_unfinished_request_counts_as_overdue_only_once_its_slo_is_past() -> None:
    """At a TPOT between the mean and the worst gap nobody is overdue in the middle of a step."""
    server = make_server(Given([(0.0, 20, 200)]), exact_steps=True)
    mean_s = episode(server, seconds=5.0, every_s=5.0)[0].tpot_p50_s
    server.reset(0)
    server.set_slos(math.inf, 1.2 * mean_s)
    assert sum(server.advance(mean_s / 7).slo_overdue for _ in range(1500)) == 0
    server.reset(0)
    server.set_slos(math.inf, 0.8 * mean_s)
    assert sum(server.advance(mean_s / 7).slo_overdue for _ in range(1500)) > 1000


# ------------------------------------------------------------------- seeds and settings


def test_seeds_decide_everything() -> None:
    server = make_server(CALM, **FOUR_A100)
    server.reset(1)
    first = server.advance(20.0)
    server.reset(1)
    assert server.advance(20.0) == first
    server.reset(2)
    other = server.advance(20.0)
    assert other.arrivals != first.arrivals or other.energy_gpu_j != first.energy_gpu_j
    assert other.gpu_power_w != first.gpu_power_w


def test_a_reset_forgets_knobs_slos_and_requests() -> None:
    server = make_server({"base": "poisson_gsm8k", "load": 2.0}, kv_blocks=80)
    server.reset(5)
    fresh = [server.advance(0.5) for _ in range(10)]
    server.apply(Knobs(100.0, 1, 500.0))
    server.set_slos(1e-3, 1e-3)
    assert server.advance(20.0).slo_overdue > 0
    server.reset(5)
    again = [server.advance(0.5) for _ in range(10)]
    for one, other in zip(fresh, again, strict=True):
        assert numbers(one) == numbers(other)


def test_knobs_are_clipped_to_what_the_server_accepts() -> None:
    server = make_server(CALM)
    server.reset(0)
    server.apply(Knobs(9e9, 10**6, 1.0))
    row = server.advance(0.5)
    assert (row.power_cap_w, row.max_num_seqs) == (400.0, 64)
    assert row.requested == Knobs(400.0, 64, 210.0)
    assert row.sm_clock_mhz == pytest.approx(210.0)
    server.apply(Knobs(-1.0, -5, None))
    row = server.advance(0.5)
    assert (row.power_cap_w, row.max_num_seqs) == (100.0, 1)


def test_ratings_tell_servers_apart_that_differ_in_memory_only() -> None:
    requests = [(0.0, 200, 200)]
    small, large = (make_server_spec(Given(requests), kv_blocks=blocks) for blocks in (50, 4000))
    assert small.saturated.output_tok_s < 0.8 * large.saturated.output_tok_s
    assert make_server_spec(Given(requests), kv_blocks=50).saturated == small.saturated


def test_ratings_tell_servers_apart_that_differ_in_power_only() -> None:
    requests = [(0.0, 200, 200)]
    free = make_server_spec(Given(requests), tensor_parallel=1)
    drawn_w = free.saturated.power_w
    low = replace(free.gpu, power_cap_max_w=0.8 * drawn_w, power_caps_w=[0.7 * drawn_w])
    assert replace(free, gpu=low).saturated.power_w < 0.9 * drawn_w
    slow = replace(free, calibration=replace(free.coefficients, warming_s=1e6))
    assert slow.spec.power_times != free.spec.power_times
    assert slow.saturated.power_w != free.saturated.power_w


def test_replicas_serve_twice_the_load_with_twice_the_power() -> None:
    one = make_server(BUSY, **FOUR_A100)
    two = make_server(BUSY | {"concurrency": 128}, data_parallel=2, **FOUR_A100)
    assert (one.num_gpus, two.num_gpus) == (4, 8)
    single, double = (episode(server, at_cap(200.0), seconds=120.0) for server in (one, two))
    for name in ("output_tokens", "energy_gpu_j", "finished"):
        assert total(double, name) == pytest.approx(2 * total(single, name), rel=0.03)
    assert double[-1].tpot_p50_s == pytest.approx(single[-1].tpot_p50_s, rel=0.1)
    assert double[-1].max_num_seqs == single[-1].max_num_seqs == 64
    two.apply(Knobs(200.0, 10, None))
    for _ in range(60):
        row = two.advance(1.0)
    assert (row.running, row.max_num_seqs) == (20, 10)
    assert two.capacity_tok_s == pytest.approx(2 * one.capacity_tok_s, rel=0.02)


def test_more_samples_than_are_kept_still_count() -> None:
    server = make_server(Given([(0.0, 1, 1)] * 3000), **FOUR_A100)
    row = episode(server, seconds=20.0, every_s=20.0)[0]
    assert row.finished == row.e2e_samples == row.ttft_samples == 3000
    assert 0.0 < row.ttft_p50_s <= row.ttft_p95_s <= row.ttft_p99_s < 20.0


def test_one_prompt_at_light_load_is_computed_by_one_replica_alone() -> None:
    requests = [(0.0, 1000, 2)]
    one, four = (
        make_server(Given(requests), data_parallel=count, exact_steps=True) for count in (1, 4)
    )
    alone, among = (episode(server, seconds=1.0, every_s=1.0)[0] for server in (one, four))
    assert among.ttft_p50_s == alone.ttft_p50_s
    idle_w = one.server_spec.spec.step_model.idle_w
    assert among.energy_gpu_j == pytest.approx(alone.energy_gpu_j + 3 * idle_w)


def test_replicas_that_share_experts_wait_for_the_slowest_one() -> None:
    """A prompt on one replica holds up what another one decodes, if their experts are shared."""
    requests = [(0.0, 20, 400), (1.0, 900, 400)]

    def tpot_s(**spread: int) -> float:
        server = make_server(
            Given(requests), model="olmoe_1b_7b", data_parallel=2, exact_steps=True, **spread
        )
        return float(episode(server, seconds=20.0, every_s=20.0)[0].tpot_p50_s)

    together, apart = tpot_s(expert_parallel=2), tpot_s()
    assert together > 1.01 * apart


def test_engines_without_work_look_again_only_every_sixteen_steps() -> None:
    """Two engines in lockstep draw more than idle power until the sixteenth step has passed."""
    server = make_server(
        Given([(0.0, 20, 3)]), model="olmoe_1b_7b", data_parallel=2, expert_parallel=2,
        exact_steps=True,
    )  # fmt: skip
    episode(server, seconds=5.0)
    assert server.engine_steps == 2 * 16


def test_a_full_queue_rejects_and_says_so() -> None:
    requests = [(0.001 * index, 100, 100) for index in range(500)]
    server = make_server(Given(requests), max_num_seqs=4, max_waiting=20)
    rows = episode(server, seconds=60.0)
    assert max(row.waiting for row in rows) == 20
    assert total(rows, "rejected") > 400
    assert total(rows, "finished") == 500 - total(rows, "rejected")


def test_memory_does_not_grow_with_hours_of_overload() -> None:
    """What waits is bounded, and so is the memory it lies in."""
    server = make_server(Poisson(rate=2000.0), max_num_seqs=4, max_waiting=50)
    server.reset(0)
    requests = server._fleet._requests[0]
    sizes = set()
    for _ in range(100):
        row = server.advance(10.0)
        sizes.add(len(requests._arrivals))
    assert row.waiting <= 54
    assert max(sizes) <= 8 * 1024


def test_lengths_that_no_word_can_add_are_rejected() -> None:
    """Streams of users' own may hold anything; prompt and output together overflow here."""
    huge = 2**63 - 1
    requests = [(0.0, huge, huge), (0.0, 5, huge), (0.0, -(2**63), 5), (0.0, 0, 5), (0.1, 20, 5)]
    server = make_server(Given([(0.0, 20, 5)]))
    server._fleet.reset(0, 0)
    server._fleet.begin(0, Given(requests).stream(np.random.default_rng(0), 1.0), None)
    row = server.advance(10.0)
    assert (row.arrivals, row.rejected, row.finished) == (5, 4, 1)
