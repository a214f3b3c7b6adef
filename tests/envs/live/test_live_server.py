"""The live server against a fake vLLM: a real process with real faults."""

from __future__ import annotations

import math
import os
import signal
import socket
import statistics
import threading
import time
from typing import Any

import live_support
import numpy as np
import pytest
from live_support import (
    PATIENCE_S,
    FakeVllm,
    act,
    advance_until,
    attach,
    launch,
    live,
    nvml_stand_in,
    recover,
    run,
    small_workload,
    total,
    wait_for,
)  # fmt: skip
from support.server_specs import Given

from envs import catalog
from envs.errors import ConfigurationError, PalsError
from envs.knobs import Knobs
from envs.live.devices.processes import start_ticks
from envs.live.devices.throttled_cpu import ThrottledCpu
from envs.live.errors import (
    BatchLimitError,
    ClientBehindError,
    DeviceBusyError,
    MetricsError,
    NotVllmError,
    RequestsRefusedError,
    ServerDiedError,
    ServerHangsError,
    ServerNotThereError,
    ServerStartError,
    WrongKeyError,
)
from envs.live.http_client import HttpClient
from envs.live.server import LiveServer
from envs.system import ServingSystem
from envs.telemetry import NUMERIC_FIELDS, Telemetry
from envs.workloads.base import RequestChunk


def test_an_interval_as_the_simulator_would_report_it(fake_vllm: FakeVllm) -> None:
    with live(attach(fake_vllm)) as server:
        assert isinstance(server, ServingSystem)
        server.set_slos(PATIENCE_S, PATIENCE_S)
        began = time.monotonic()
        first = server.reset(1)
        reset_s = time.monotonic() - began
        assert (first.time_s, first.energy_gpu_j, first.power_cap_w) == (0.0, 0.0, 400.0)
        rows = advance_until(server, lambda rows: total(rows, "finished") > 5)
        passed_s = time.monotonic() - began
        assert all(math.isfinite(getattr(row, name)) for row in rows for name in NUMERIC_FIELDS)
        assert total(rows, "arrivals") >= total(rows, "finished")
        assert total(rows, "duration_s") == pytest.approx(rows[-1].time_s)
        assert 0.25 * len(rows) - reset_s <= rows[-1].time_s <= passed_s  # on a wall's clock
        assert total(rows, "ttft_samples") >= total(rows, "finished")
        assert total(rows, "prompt_tokens") > 0
        mean_w = total(rows, "energy_gpu_j") / total(rows, "duration_s")
        assert 60.0 <= mean_w <= 420.0
        system_j = total(rows, "energy_gpu_j") + 10.0 * total(rows, "duration_s")
        assert total(rows, "energy_system_j") == pytest.approx(system_j)
        assert rows[-1].power_source == "modelled"
        assert server.latency().finished == total(rows, "finished")
        assert total(rows, "slo_missed") == 0
        assert server.kv_cache_tokens == 1600
        assert server.offered_tok_s == pytest.approx(12.0 * server.workload.mean_output_tokens)


def test_server_and_client_count_the_same_tokens(fake_vllm: FakeVllm) -> None:
    requests = Given([(0.05 * number, 8, 5 + number) for number in range(10)])
    with live(attach(fake_vllm), requests) as server:
        fake_vllm.fault(stall=True)  # no token comes before counting begins
        server.reset(1)
        fake_vllm.fault()
        received: list[float] = []

        def all_ended(rows: list[Telemetry]) -> bool:
            received.append(server.extras["client_output_tokens"])
            return sum(row.finished for row in rows[:-1]) == 10

        rows = advance_until(server, all_ended)
        assert sum(received) == total(rows, "output_tokens") == sum(range(5, 15))
        assert total(rows, "prompt_tokens") == 80


@pytest.mark.long
def test_the_same_seed_sends_the_same_requests_as_the_simulator(fake_vllm: FakeVllm) -> None:
    workload = small_workload()
    with live(attach(fake_vllm), workload) as server:
        taken: list[RequestChunk] = []
        begin = server._session.generator.begin

        def spy(stream: Any, rng: Any, concurrency: Any) -> None:
            taken.append(stream.take(50))
            begin(stream, rng, concurrency)

        server._session.generator.begin = spy  # type: ignore[method-assign]
        for seed in (3, 3, 4):
            server.reset(seed)
    arrivals, _, _ = np.random.default_rng(3).spawn(3)
    simulated = workload.stream(arrivals, 12.0).take(50)
    for mine, theirs in zip(taken[0], simulated, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(taken[0].prompt_tokens, taken[1].prompt_tokens)
    assert not np.array_equal(taken[0].prompt_tokens, taken[2].prompt_tokens)


def test_caps_and_limits_reach_the_server_and_leave_again(fake_vllm: FakeVllm) -> None:
    fake_vllm.client.call("PUT", "/pals/batch_limit", {"max_num_seqs": 6})
    closed = catalog.build(
        "workload",
        {"base": "closed_loop", "concurrency": 12, "prompt_scale": 0.05, "output_scale": 0.1},
    )
    with live(attach(fake_vllm, max_num_seqs_ceiling=8), closed) as server:
        server.reset(1)
        assert fake_vllm.limit()["max_num_seqs"] == 8
        act(server, Knobs(120.0, 2))
        assert fake_vllm.limit()["max_num_seqs"] == 2

        def throttled(rows: list[Telemetry]) -> bool:
            last = rows[-1]
            queued = last.running <= 2 and last.waiting >= 9 and last.oldest_wait_s > 0
            return queued and last.cap_binding > 0.5

        last = advance_until(server, throttled)[-1]
        assert (last.power_cap_w, last.max_num_seqs) == (120.0, 2)
        slow = run(server, 2.0)
        slow_s = total(slow, "output_tokens") / total(slow, "duration_s")
        act(server, Knobs(9999.0, 9999))
        assert server._requested == Knobs(400.0, 8, None)
        # The quota bounds the slow rate whatever else the machine does; the other needs patience.
        advance_until(
            server, lambda rows: rows[-1].output_tokens * 0.6 > slow_s * rows[-1].duration_s
        )
    assert fake_vllm.limit()["max_num_seqs"] == 6


@pytest.mark.long
def test_actuation_never_waits_and_its_times_are_recorded(
    fake_vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_cap(self: ThrottledCpu, watts: float) -> None:
        time.sleep(0.15)
        set_cap(self, watts)

    set_cap = ThrottledCpu.set_power_cap
    monkeypatch.setattr(ThrottledCpu, "set_power_cap", slow_cap)
    with live(attach(fake_vllm)) as server:
        server.reset(1)
        took, seen = [], {}
        for cap in (390.0, 380.0, 370.0, 360.0, 350.0, 340.0):
            began = time.perf_counter()
            server.apply(Knobs(cap, 8 if cap > 370 else 4))
            took.append(time.perf_counter() - began)
            server.advance(0.25)
            seen |= server.extras
        assert statistics.median(took) < 0.005
        assert max(took) < 0.1
        assert seen["power_cap_w_actuation_s"] > 0.15
        assert seen["max_num_seqs_actuation_s"] > 0.0
        assert seen["power_cap_w_effect_s"] >= 0.0
        assert seen["max_num_seqs_effect_s"] >= 0.0


@pytest.mark.long
def test_a_late_decision_is_recorded_and_does_not_move_the_grid(fake_vllm: FakeVllm) -> None:
    with live(attach(fake_vllm)) as server:
        server.reset(1)
        server.advance(0.4)
        time.sleep(0.6)
        server.apply(Knobs(400.0, 8))
        late = server.advance(0.4)
        assert server.extras["interval_overrun_s"] > 0.15
        assert server.extras["decision_s"] > 0.55
        assert late.duration_s == pytest.approx(0.6, abs=0.15)
        assert server.advance(0.4).time_s == pytest.approx(1.2, abs=0.15)
        time.sleep(1.5)
        server.advance(0.4)
        assert server.extras["clock_resynchronised"] == 1.0


def test_a_dry_run_decides_and_sets_nothing(
    fake_vllm: FakeVllm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    fake_vllm.client.call("PUT", "/pals/batch_limit", {"max_num_seqs": 7, "mode": "preempt"})
    with live(attach(fake_vllm)) as real, live(attach(fake_vllm, control=False)) as server:
        real.reset(1)  # a dry run needs no lock
        act(real, Knobs(300.0, 5))
        server.reset(1)
        server.apply(Knobs(150.0, 1))
        row = server.advance(0.3)
        assert row.requested == Knobs(150.0, 1, None)
        assert fake_vllm.limit()["max_num_seqs"] == 5
        assert "would set" in caplog.text
        assert row.output_tokens >= 0


@pytest.mark.long
def test_one_controller_at_a_time(fake_vllm: FakeVllm) -> None:
    with live(attach(fake_vllm)), pytest.raises(DeviceBusyError):
        LiveServer(attach(fake_vllm), small_workload())
    with live(attach(fake_vllm)):
        pass


@pytest.mark.long
def test_other_clients_requests_are_observed_and_survive_reset(fake_vllm: FakeVllm) -> None:
    external = catalog.build("workload", {"base": "external", "rate": 5.0})
    theirs = small_workload(rate=20.0)
    with (
        live(attach(fake_vllm, control=False), theirs) as users,
        live(attach(fake_vllm), external) as server,
    ):
        users.reset(1)
        server.set_slos(1e-6, 100.0)
        server.reset(1)
        rows = run(server, 2.0)
        server.reset(2)
        later = run(server, 1.0)
        rows += later
        users.advance(0.1)
        assert users.extras["requests_lost"] == 0
        assert total(rows, "finished") > 10
        assert total(rows, "arrivals") == pytest.approx(total(rows, "finished"), abs=20)
        assert total(rows, "output_tokens") > 100
        assert total(rows, "ttft_samples") > 10
        assert max(row.ttft_p99_s for row in rows) > 0
        assert total(rows, "slo_missed") > 10
        assert server.extras["client_output_tokens"] == 0
        assert server.latency().finished == total(later, "finished") > 0


@pytest.mark.long
def test_requests_too_long_are_rejected_and_others_go_on(fake_vllm: FakeVllm) -> None:
    with live(attach(fake_vllm), small_workload(prompt_scale=4.1, rate=20.0)) as server:
        server.reset(1)
        rows = run(server, 2.0)
        assert total(rows, "rejected") > 0
        assert total(rows, "rejected") < total(rows, "arrivals")


# Faults: each ends in its own type, or in a recorded recovery; always with all put back.


def expect(server: LiveServer, kind: type[PalsError], seconds: float = 10.0) -> list[Telemetry]:
    """Advances until the error comes, and returns what was recorded until then."""
    rows: list[Telemetry] = []
    with pytest.raises(kind):
        rows.extend(server.advance(0.25) for _ in range(round(seconds / 0.25)))
    return rows


def test_a_fake_server_whose_port_was_taken_meanwhile_takes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken, live_support.free_port()])
        monkeypatch.setattr(live_support, "free_port", lambda: next(ports))
        server = FakeVllm.anywhere()
        try:
            assert server.port != taken
        finally:
            server.stop()


def test_nothing_at_the_address(fake_vllm: FakeVllm) -> None:
    fake_vllm.stop()
    with pytest.raises(ServerNotThereError, match=fake_vllm.url):
        LiveServer(attach(fake_vllm), small_workload())


def test_no_address_and_no_model() -> None:
    config = attach_nowhere()
    with pytest.raises(ConfigurationError, match=r"server\.url.*server\.launch\.model"):
        LiveServer(config, small_workload())


def attach_nowhere() -> Any:
    return catalog.build(
        "server", {"base": "vllm", "device": {"_target_": "envs.live.devices.nvml.Nvml"}}
    )


@pytest.mark.long
def test_a_server_without_the_plugin_names_the_flags(fake_vllm: FakeVllm) -> None:
    bare = FakeVllm.anywhere("--no-plugin")
    try:
        with pytest.raises(BatchLimitError, match=r"--scheduler-cls.*server\.batch_limit=off"):
            LiveServer(attach(bare), small_workload())
        with live(attach(bare, batch_limit="off")) as server:
            server.reset(1)
            server.apply(Knobs(200.0, 2))
            assert server.advance(0.3).power_cap_w == 200.0
    finally:
        bare.stop()


def test_a_path_another_model_and_a_server_that_is_no_vllm_are_told(
    fake_vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r"server\.url.*/v1 at its end"):
        LiveServer(attach(fake_vllm, url=f"{fake_vllm.url}/v1/"), small_workload())
    with pytest.raises(ConfigurationError, match=r"server\.model.*no 'other', but fake"):
        LiveServer(attach(fake_vllm, model="other"), small_workload())
    with pytest.raises(NotVllmError, match="no vLLM server"):
        LiveServer(attach(fake_vllm, url=f"{fake_vllm.url}/elsewhere"), small_workload())


@pytest.mark.long
def test_a_wrong_key_is_told(fake_vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = FakeVllm.anywhere("--api-key", "secret")
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    try:
        with pytest.raises(WrongKeyError, match=r"api_key_env.*is not set"):
            LiveServer(attach(keyed), small_workload())
        monkeypatch.setenv("VLLM_API_KEY", "wrong")
        with pytest.raises(WrongKeyError, match=r"api_key_env.*is refused"):
            LiveServer(attach(keyed), small_workload())
        monkeypatch.setenv("VLLM_API_KEY", "secret")
        with live(attach(keyed)) as server:
            server.reset(1)
            assert total(run(server, 1.5), "finished") > 0
            assert "secret" not in repr(server.config)
    finally:
        keyed.stop()


def test_a_server_that_cannot_start_shows_its_last_words() -> None:
    with pytest.raises(ServerStartError, match="no such model"):
        LiveServer(launch(arguments=["--fail-to-start"]), small_workload())


def test_a_launched_server_ends_with_us_and_dies_as_its_own_error() -> None:
    with live(launch()) as server:
        assert server._session.host.process is not None
        pid = server._session.host.process.pid
        assert "--no-enable-prefix-caching" in server.facts["command"]
        assert server.facts["prefix_caching"] is False
        assert os.getpgid(pid) == pid  # Ctrl-C is for us
        assert os.getsid(pid) == os.getsid(0)  # where Linux schedules by sessions, beside us
        server.reset(1)
        run(server, 0.5)
    assert start_ticks(pid) is None
    with live(launch()) as server:
        server.reset(1)
        rows = run(server, 0.5)
        assert server._session.host.process is not None
        os.kill(server._session.host.process.pid, signal.SIGKILL)
        rows += expect(server, ServerDiedError)
        assert total(rows, "duration_s") > 0
        assert server.latency().finished >= 0


@pytest.mark.long
def test_a_launched_server_is_started_again() -> None:
    with live(launch(on_failure="restart")) as server:
        server.reset(1)
        run(server, 1.0)
        server.apply(Knobs(200.0, 3))
        server.advance(0.25)
        process = server._session.host.process
        assert process is not None
        first = process.pid
        os.killpg(first, signal.SIGKILL)
        row = recover(server)
        assert process.pid != first
        assert server.extras["downtime_s"] > 0.1
        assert row.duration_s >= server.extras["downtime_s"]
        assert server.events[0]["error"] == "ServerDiedError"
        rows = run(server, 2.0)
        assert total(rows, "finished") > 0
        assert rows[-1].power_cap_w == 200.0
        assert rows[-1].max_num_seqs == 3
        assert all(later.output_tokens >= 0 for later in rows)
        pid = process.pid
    assert start_ticks(pid) is None


@pytest.mark.long
def test_an_attached_server_is_never_restarted_but_waited_for(fake_vllm: FakeVllm) -> None:
    device = {"device": nvml_stand_in()}
    with live(attach(fake_vllm, on_failure="restart", **device)) as server:
        server.reset(1)
        run(server, 0.5)
        fake_vllm.stop()
        timer = threading.Timer(1.5, fake_vllm.start)
        timer.start()
        recover(server)
        timer.join()
        assert server.extras["downtime_s"] > 0.5
        assert total(run(server, 1.5), "finished") > 0
    with live(attach(fake_vllm, **device)) as server:
        server.reset(1)
        run(server, 0.5)
        fake_vllm.stop()
        expect(server, ServerNotThereError)


def test_an_address_that_speaks_no_tls_is_not_said_to_be_silent(fake_vllm: FakeVllm) -> None:
    secure = HttpClient(fake_vllm.url.replace("http:", "https:"), {}, 5.0)
    with pytest.raises(ServerNotThereError, match=r"no secure connection.*http://"):
        secure.call("GET", "/health")


@pytest.mark.parametrize("noticed", [True, False], ids=["recovered from", "noticed afterwards"])
def test_requests_that_a_restart_broke_are_no_failure_of_the_new_server(
    fake_vllm: FakeVllm, noticed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A restart that ends within an interval has broken requests, too."""
    config = attach(fake_vllm, on_failure="restart", device=nvml_stand_in(), refused_limit=2)
    lengths = {"concurrency": 8, "prompt_scale": 0.05, "output_scale": 1.0}
    streams = catalog.build("workload", {"base": "closed_loop", **lengths})
    with live(config, streams) as server:
        server.reset(1)
        run(server, 0.5)
        generator = server._session.generator
        fake_vllm.stop()
        wait_for(lambda: len(generator._failures) > 2)
        if not noticed:
            fake_vllm.start()
            server.advance(0.25)
            assert server.extras["counters_reset"] == 1.0
        else:
            timer = threading.Timer(0.5, fake_vllm.start)
            timer.start()
            recover(server)
            timer.join()
        run(server, 1.0)
        assert len(server.events) == noticed
        assert caplog.text.count("recovered after") == noticed
        assert not generator._failures


@pytest.mark.long
def test_a_quick_restart_behind_our_back_only_resets_the_counters(fake_vllm: FakeVllm) -> None:
    with live(attach(fake_vllm, device=nvml_stand_in())) as server:
        server.reset(1)
        server.apply(Knobs(400.0, 3))
        run(server, 1.0)
        server._session.generator.pause()
        fake_vllm.stop()
        fake_vllm.start()
        server._session.generator.resume()
        row = server.advance(0.25)
        assert server.extras["counters_reset"] == 1.0
        assert row.output_tokens >= 0
        run(server, 0.5)
        wait_for(lambda: fake_vllm.limit()["max_num_seqs"] == 3)


@pytest.mark.long
def test_a_stopped_server_hangs(fake_vllm: FakeVllm) -> None:
    with live(attach(fake_vllm, call_timeout_s=0.3)) as server:
        server.reset(1)
        run(server, 0.5)
        server.apply(Knobs(200.0, 2))
        server.advance(0.25)
        assert fake_vllm.limit()["max_num_seqs"] == 2
        os.kill(fake_vllm.process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            expect(server, ServerHangsError)
            assert time.monotonic() - began < 20.0
        finally:
            os.kill(fake_vllm.process.pid, signal.SIGCONT)
        wait_for(lambda: fake_vllm.limit()["max_num_seqs"] == 8)  # by the guard, alone


@pytest.mark.long
def test_an_engine_that_stalls_hangs(fake_vllm: FakeVllm) -> None:
    with live(attach(fake_vllm, stall_timeout_s=1.0)) as server:
        server.reset(1)
        run(server, 1.0)
        fake_vllm.fault(stall=True)
        rows = expect(server, ServerHangsError)
        assert rows[-1].oldest_wait_s > 0.4
    assert fake_vllm.limit()["max_num_seqs"] == 8


@pytest.mark.long
@pytest.mark.parametrize("fault", [{"metrics_status": 500}, {"metrics_body": "<html>oops</html>"}])
def test_bad_metrics_end_a_run_or_are_waited_out(
    fake_vllm: FakeVllm, fault: dict[str, Any]
) -> None:
    with live(attach(fake_vllm)) as server:
        server.reset(1)
        run(server, 0.5)
        server.apply(Knobs(200.0, 2))
        server.advance(0.25)
        fake_vllm.fault(**fault)
        expect(server, MetricsError)
    assert fake_vllm.limit()["max_num_seqs"] == 8
    fake_vllm.fault()
    with live(attach(fake_vllm, on_failure="restart")) as server:
        server.reset(1)
        run(server, 0.5)
        fake_vllm.fault(**fault)
        timer = threading.Timer(1.5, fake_vllm.fault)
        timer.start()
        recover(server)
        timer.join()
        assert server.extras["metrics_failures"] >= 3
        assert total(run(server, 1.0), "output_tokens") > 0


@pytest.mark.long
@pytest.mark.parametrize("status", [401, 429, 500])
def test_refused_requests_end_a_run(fake_vllm: FakeVllm, status: int) -> None:
    with live(attach(fake_vllm)) as server:
        server.reset(1)
        run(server, 0.5)
        fake_vllm.fault(refuse=status)
        expect(server, RequestsRefusedError)


@pytest.mark.long
def test_a_dead_engine_is_told_from_a_refusal(fake_vllm: FakeVllm) -> None:
    with live(attach(fake_vllm)) as server:
        server.reset(1)
        run(server, 0.5)
        fake_vllm.fault(refuse=500, health=503)
        expect(server, ServerDiedError)


@pytest.mark.long
def test_a_load_that_cannot_be_kept_is_an_error_or_recorded(fake_vllm: FakeVllm) -> None:
    def block(server: LiveServer) -> None:
        """Holds the sender up, as a machine without idle cores does."""
        server._session.generator._loop.call_soon_threadsafe(time.sleep, 1.0)

    with live(attach(fake_vllm, max_client_lag_s=0.3)) as server:
        server.reset(1)
        run(server, 0.5)
        block(server)
        expect(server, ClientBehindError)
    with live(attach(fake_vllm, max_client_lag_s=0.3, on_failure="restart")) as server:
        server.reset(1)
        run(server, 0.5)
        block(server)
        recover(server)
        assert server.events[0]["error"] == "ClientBehindError"
        assert server.extras["client_lag_s"] > 0.3
        assert total(run(server, 5.0), "finished") > 0  # a busy machine takes its time


@pytest.mark.long
def test_a_lost_device_ends_the_run_with_its_own_type(fake_vllm: FakeVllm, fake_gpus: Any) -> None:
    from envs.live.devices.nvml import Nvml
    from envs.live.errors import DeviceLostError

    fake_gpus.set({}, {})
    device = Nvml(gpus=["0", "1"])
    with live(attach(fake_vllm, device=device)) as server:
        server.reset(1)
        server.apply(Knobs(200.0, 2))
        row = run(server, 0.5)[-1]
        assert row.gpu_power_w == pytest.approx((260.0, 260.0))
        assert row.power_w == pytest.approx(520.0)
        assert row.power_source == "measured"
        assert row.cap_binding == 1.0
        assert fake_gpus.limits_w == [200.0, 200.0]
        fake_gpus.change(1, lost=True)
        expect(server, DeviceLostError)
    assert fake_gpus.limits_w == [400.0, 200.0]
    assert fake_vllm.limit()["max_num_seqs"] == 8


@pytest.mark.long
def test_the_floor_is_never_undercut(fake_vllm: FakeVllm, fake_gpus: Any) -> None:
    from envs.live.devices.nvml import Nvml

    with live(attach(fake_vllm, device=Nvml(), cap_floor_w=250.0)) as server:
        server.reset(1)
        server.apply(Knobs(100.0, 8))
        server.advance(0.3)
        assert fake_gpus.limits_w == [250.0]
        assert server.knob_limits.power_cap_min_w == 250.0
    with pytest.raises(ConfigurationError, match="cap_floor_w"):
        LiveServer(attach(fake_vllm, device=Nvml(), cap_floor_w=900.0), small_workload())


@pytest.mark.long
def test_more_than_the_servers_batch_is_refused(fake_vllm: FakeVllm) -> None:
    with pytest.raises(ConfigurationError, match=r"server\.max_num_seqs.*8"):
        LiveServer(attach(fake_vllm, max_num_seqs=16), small_workload())


@pytest.mark.long
def test_an_interrupted_interval_puts_everything_back(fake_vllm: FakeVllm) -> None:
    with live(attach(fake_vllm)) as server:
        server.reset(1)
        server.apply(Knobs(150.0, 2))
        server.advance(0.3)
        assert fake_vllm.limit()["max_num_seqs"] == 2
        timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            server.advance(5.0)
        assert fake_vllm.limit()["max_num_seqs"] == 8


def test_the_hold_on_the_device_is_renewed_while_the_server_is_slow_to_answer(
    fake_vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, renewed = threading.Event(), threading.Event()
    with live(attach(fake_vllm)) as server:
        session = server._session
        assert session is not None
        assert session._limit is not None
        read = session._limit.read
        monkeypatch.setattr(session._limit, "read", lambda: answer.wait(2 * PATIENCE_S) and read())
        monkeypatch.setattr(session.device, "renew", renewed.set)
        session._effect_pending = True
        session.effects_s()  # asks, and is not answered
        monkeypatch.setattr(session, "_device_renewed_s", 0.0)
        try:
            session.renew_device()
            assert renewed.wait(PATIENCE_S)
        finally:
            answer.set()
