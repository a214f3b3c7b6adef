"""Accounts of our own requests, and the onlooker's view of other clients' requests."""

from __future__ import annotations

import math

import pytest

from envs.latency import bucket_of, percentile
from envs.live.accounting import Accounts, Event, summary
from envs.live.clock import ElasticClock
from envs.live.devices.base import Reading
from envs.live.histogram import Histogram
from envs.live.metrics import Snapshot
from envs.live.onlooker import Onlooker
from envs.live.sampler import summarise
from envs.live.telemetry_fields import client_fields


def life(request: int, arrived: float, tokens: list[float], prompt: int = 10) -> list[Event]:
    events = [Event("arrived", request, arrived, prompt)]
    events += [Event("token", request, time, 1) for time in tokens]
    return [*events, Event("finished", request, tokens[-1])]


def test_a_request_from_arrival_to_end() -> None:
    accounts = Accounts()
    accounts.ttft_slo_s, accounts.tpot_slo_s = 1.0, 0.3
    account = accounts.take(life(0, 1.0, [1.5, 1.75, 2.0]))
    assert (account.arrivals, account.finished, account.output_tokens) == (1, 1, 3)
    assert account.prompt_tokens == 10
    assert account.ttft_s == [0.5]
    assert account.tpot_s == [0.25]
    assert account.e2e_s == [1.0]
    assert account.slo_missed == 0
    assert accounts.in_flight == 0


def test_slos_are_missed_by_either_latency() -> None:
    accounts = Accounts()
    accounts.ttft_slo_s, accounts.tpot_slo_s = 0.4, 0.3
    late_first = life(0, 0.0, [0.5, 0.6])
    slow = life(1, 0.0, [0.1, 0.6])
    good = life(2, 0.0, [0.1, 0.2])
    assert accounts.take(late_first + slow + good).slo_missed == 2
    record = accounts.latency(2.0)
    assert (record.finished, record.slo_missed) == (3, 2)


def test_those_who_wait_count_with_their_age() -> None:
    accounts = Accounts()
    accounts.ttft_slo_s = 1.0
    account = accounts.take([Event("arrived", 0, 1.0, 40), Event("arrived", 1, 2.5, 60)])
    fields = client_fields(account, accounts, 3.0)
    assert fields["ttft_samples"] == 2
    assert fields["ttft_p99_s"] == 2.0
    assert fields["oldest_wait_s"] == 2.0
    assert fields["prefill_backlog_tokens"] == 100
    assert fields["slo_overdue"] == 1
    assert fields["tpot_samples"] == 0
    assert fields["tpot_p50_s"] == 0.0
    assert accounts.latency(3.0).ttft[bucket_of(2.0)] == 1


def test_slow_tokens_are_overdue_before_the_end() -> None:
    accounts = Accounts()
    accounts.tpot_slo_s = 0.1
    accounts.take(life(0, 0.0, [0.1, 0.15])[:-1])
    assert accounts.overdue(0.19) == 0
    assert accounts.overdue(0.30) == 1


def test_the_warm_up_is_left_out_of_the_record_only() -> None:
    accounts = Accounts()
    accounts.warmup_s = 10.0
    account = accounts.take(life(0, 9.0, [11.0, 12.0]) + life(1, 10.0, [10.5, 11.0]))
    assert account.finished == 2
    record = accounts.latency(20.0)
    assert record.finished == 1
    assert record.ttft.sum() == record.tpot.sum() == record.e2e.sum() == 1


def test_one_token_has_no_time_per_token() -> None:
    accounts = Accounts()
    assert accounts.take(life(0, 0.0, [0.5])).tpot_s == []
    assert accounts.latency(1.0).tpot.sum() == 0


def test_rejected_and_lost_requests_end() -> None:
    accounts = Accounts()
    arrivals = [Event("arrived", number, 0.0, 5) for number in range(2)]
    ends = [Event("rejected", 0, 0.1), Event("lost", 1, 0.2)]
    account = accounts.take(arrivals + ends)
    assert (account.rejected, account.lost, accounts.in_flight) == (1, 1, 0)
    assert account.plus(account).rejected == 2


def test_percentiles_are_samples_that_occurred() -> None:
    fields = summary("ttft", [0.1, 0.2, 0.3, 9.0])
    assert fields["ttft_samples"] == 4
    assert fields["ttft_p50_s"] == 0.2
    assert fields["ttft_p99_s"] == 9.0


def snapshot(running: float, waiting: float, finished: float = 0.0) -> Snapshot:
    return Snapshot(
        gauges={"running": running, "waiting": waiting},
        counters={"finished": finished, "output_tokens": 0.0},
        histograms={"prompt_length": Histogram((100.0, math.inf), (4.0, 4.0), 200.0)},
    )


def test_an_onlooker_dates_the_queue() -> None:
    """Two arrive at 1 s and are served at 3 s; two more arrive at 2 s and wait."""
    onlooker, slos = Onlooker(), (math.inf, math.inf)
    onlooker.fields(snapshot(0, 0), snapshot(0, 0), 0.0, slos)
    at_1 = onlooker.fields(snapshot(0, 2), snapshot(0, 2), 1.0, slos)
    at_2 = onlooker.fields(snapshot(0, 4), snapshot(0, 4), 2.0, slos)
    at_3 = onlooker.fields(snapshot(2, 2), snapshot(2, 2), 3.0, slos)
    at_4 = onlooker.fields(snapshot(2, 0), snapshot(2, 0, finished=2), 4.0, slos)
    assert [f["arrivals"] for f in (at_1, at_2, at_3, at_4)] == [2, 2, 0, 0]
    assert [f["oldest_wait_s"] for f in (at_1, at_2, at_3, at_4)] == [0.0, 1.0, 1.0, 0.0]
    assert at_2["prefill_backlog_tokens"] == 4 * 50
    assert at_4["finished"] == 2


def seen(ttft: tuple[float, ...], finished: float, waiting: float = 0.0) -> Snapshot:
    bounds = (0.1, 1.0, math.inf)
    return Snapshot(
        gauges={"running": 1.0, "waiting": waiting},
        counters={"finished": finished, "output_tokens": 0.0},
        histograms={"ttft": Histogram(bounds, ttft, 0.0)},
    )


def test_an_onlookers_latencies_reach_the_episodes_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    onlooker, slos = Onlooker(warmup_s=1.5), (0.5, math.inf)
    for time_s, added in ((1.0, seen((5, 5, 5), 5)), (2.0, seen((6, 9, 10), 10))):
        fields = onlooker.fields(added, added, time_s, slos)
    assert fields["slo_missed"] == 1  # beyond 1 s, the bound next above the SLO
    assert "no bucket bound" in caplog.text
    assert caplog.text.count("evaluated against 1 s") == 1
    record = onlooker.latency()
    assert (record.finished, record.slo_missed, record.slo_overdue) == (10, 1, 0)
    assert int(record.ttft.sum()) == 10
    assert percentile(record.ttft, 50) == pytest.approx(0.1, rel=0.02)
    assert percentile(record.ttft, 99) == pytest.approx(1.0, rel=0.02)
    assert record.slo_violation_rate == pytest.approx(0.1)


def test_an_onlooker_counts_those_who_have_waited_too_long() -> None:
    onlooker, slos = Onlooker(), (1.5, math.inf)
    overdue = []
    for second in range(5):  # one more waits every second, none is served
        row = seen((0, 0, 0), 0, waiting=second)
        overdue.append(onlooker.fields(row, row, float(second), slos)["slo_overdue"])
    assert overdue == [0, 0, 0, 1, 2]
    assert onlooker.latency().slo_overdue == 2


def test_the_clock_makes_up_for_lateness_and_gives_up_when_far_behind() -> None:
    time = {"now": 0.0, "slept": 0.0}

    def sleep(seconds: float) -> None:
        time["now"] += seconds
        time["slept"] += seconds

    clock = ElasticClock(now=lambda: time["now"], sleep=sleep)
    checks = []
    clock.sleep_until(clock.next_deadline(0.5), lambda: checks.append(1))
    assert time["now"] == 0.5
    time["now"] += 0.3  # the controller thought for 0.3 s
    clock.sleep_until(clock.next_deadline(0.5), lambda: checks.append(1))
    assert time["now"] == 1.0
    time["now"] += 0.7  # late, but by less than an interval: no sleep, same grid
    deadline = clock.next_deadline(0.5)
    clock.sleep_until(deadline, lambda: checks.append(1))
    assert (deadline, time["now"], clock.resynchronised) == (1.5, 1.7, False)
    time["now"] += 2.0
    assert clock.next_deadline(0.5) == time["now"]
    assert clock.resynchronised
    assert checks
    clock.sleep_until(clock.next_deadline(30.0), lambda: checks.append(1))
    assert len(checks) > 30  # a long sleep looks up at least once a second


def reading(time_s: float, power: float, energy: float | None, **changes: object) -> Reading:
    values: dict[str, object] = {
        "time_s": time_s, "power_w": (power,), "energy_j": None if energy is None else (energy,),
        "sm_clock_mhz": (1000.0,), "cap_w": (300.0,), "cap_bound_s": None, "cap_binds": (False,),
    }  # fmt: skip
    return Reading(**{**values, **changes})  # type: ignore[arg-type]


def test_power_over_an_interval_with_and_without_a_counter() -> None:
    counted = summarise([reading(0.0, 100, 0.0), reading(1.0, 100, 130.0)])
    assert counted.energy_j == 130.0
    assert counted.power_w == (100.0,)
    integrated = summarise(
        [reading(0.0, 0, None), reading(1.0, 100, None), reading(3.0, 200, None)]
    )
    assert integrated.energy_j == pytest.approx(100 + 2 * 200)
    assert integrated.power_w[0] == pytest.approx(500 / 3)


def test_cap_binding_is_a_fraction_of_the_interval() -> None:
    seen = [reading(0.0, 1, 0.0), reading(1.0, 1, 0.0, cap_binds=(True,)), reading(4.0, 1, 0.0)]
    assert summarise(seen).cap_binding == pytest.approx(0.25)
    metered = [reading(0.0, 1, 0.0, cap_bound_s=(5.0,)), reading(2.0, 1, 0.0, cap_bound_s=(6.5,))]
    assert summarise(metered).cap_binding == pytest.approx(0.75)
