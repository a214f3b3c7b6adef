"""A server that one attaches to is watched, unless more is asked for."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest
from live_support import FakeVllm, attach, free_port, live, run, small_workload, total

from envs.knobs import Knobs
from envs.live import watching
from envs.live.devices.base import Reading
from envs.live.devices.nvml import Nvml
from envs.live.errors import DeviceStalledError, RequestsRefusedError
from envs.live.factory import make_live
from envs.live.process import Launch
from envs.workloads.external import External


def test_attaching_sends_nothing_and_sets_nothing_unless_told(
    fake_vllm: FakeVllm, fake_gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fake_gpus.set({"limit": 250_000})
    with live(attach(fake_vllm, device=Nvml(), control=None, send_load=None)) as server:
        assert isinstance(server.workload, External)
        first = caplog.records[0].getMessage()
        assert "none are sent (server.send_load=true" in first
        assert "no knob is set (server.control=true" in first
        server.reset(1)
        server.apply(Knobs(150.0, 2))
        rows = run(server, 1.0)
        assert rows[-1].requested == Knobs(150.0, 2, None)
        assert total(rows, "output_tokens") == 0
        assert fake_vllm.limit()["owner"] is None
    assert fake_gpus.state["log"] == []


def test_a_server_of_ours_is_sent_load_and_controlled(fake_vllm: FakeVllm) -> None:
    ours = attach(fake_vllm, url=None, launch=Launch(model="m"), control=None, send_load=None)
    assert (ours.sets_knobs, ours.sends_load) == (True, True)
    assert "power cap and batch limit are set; the workload is sent" in ours.intent
    only_cap = attach(fake_vllm, batch_limit="off")
    assert "the power cap is set; the workload is sent" in only_cap.intent


def test_no_capacity_is_asked_of_a_server_that_is_watched(
    fake_vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "LEARNING_S", 1.0)
    quiet = attach(fake_vllm, control=False, send_load=False, capacity_tok_s=None)
    env = make_live(server=quiet, workload="external")
    try:
        assert env.system.capacity_tok_s == 8.0  # nothing ran: a token a second and place
        assert "server.capacity_tok_s" in caplog.text
        env.reset(seed=1)
    finally:
        env.close()
    users = attach(fake_vllm, control=False)
    with live(users, small_workload(rate=20.0)) as sending:
        sending.reset(1)
        run(sending, 1.0)
        with live(quiet) as server:
            assert server.capacity_tok_s > 20.0


def test_violations_of_other_clients_requests_reach_the_record(fake_vllm: FakeVllm) -> None:
    with (
        live(attach(fake_vllm, control=False), small_workload(rate=20.0)) as users,
        live(attach(fake_vllm, control=False, send_load=False)) as server,
    ):
        users.reset(1)
        server.set_slos(0.001, 100.0)  # no server is that fast
        server.set_warmup(0.5)
        server.reset(1)
        rows = run(server, 3.0)
        record = server.latency()
        late = [row for row in rows if row.time_s > 0.5]
        assert record.finished == total(late, "finished") > 10
        assert record.slo_missed == min(total(late, "slo_missed"), record.finished) > 5
        assert record.slo_violation_rate is not None
        assert record.ttft.sum() == total(late, "ttft_samples")


def test_a_batch_limit_that_is_left_alone_is_one_level_read_from_the_server(
    fake_vllm: FakeVllm, caplog: pytest.LogCaptureFixture
) -> None:
    fake_vllm.client.call("PUT", "/pals/batch_limit", {"max_num_seqs": 6})
    env = make_live(server=attach(fake_vllm, batch_limit="off"), workload=small_workload())
    try:
        assert env.context.grid.max_num_seqs == (6,)
        env.system.reset(1)
        env.system.apply(Knobs(200.0, 2))
        row = env.system.advance(0.3)
        assert (row.requested.max_num_seqs, row.max_num_seqs) == (6, 6)
    finally:
        env.close()
    assert fake_vllm.limit()["max_num_seqs"] == 6


def test_a_server_that_cannot_tell_its_limit_is_believed(caplog: pytest.LogCaptureFixture) -> None:
    bare = FakeVllm(free_port(), "--no-plugin")
    try:
        with live(attach(bare, batch_limit="off")) as server:
            assert server.knob_limits.max_num_seqs == 8
            assert "server.max_num_seqs (8) is taken" in caplog.text
    finally:
        bare.stop()


def test_an_energy_counter_that_disagrees_with_the_sensor_is_told(
    fake_vllm: FakeVllm,
    fake_gpus: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("envs.live.sampler.COMPARED_S", 1.0)
    config = attach(fake_vllm, device=Nvml(), control=False, send_load=False)
    with live(config) as server:
        server.reset(1)
        run(server, 2.0)  # the counter stands still while 260 W are drawn
        assert caplog.text.count("100 % less than the power sensor") == 1
        facts = server.facts["device_facts"]
        assert facts["power_reading"] == "instant"
        assert facts["gpus"]["GPU-00000000"]["default_limit_w"] == 400.0
        json.dumps(server.facts)


def test_long_pieces_do_not_lose_a_request(fake_vllm: FakeVllm) -> None:
    """A server that sends 600 KiB with every token: more than a reader takes by default."""
    fake_vllm.fault(padding=600 * 1024)
    closed = small_workload(rate=2.0)
    with live(attach(fake_vllm), closed) as server:
        server.reset(1)
        rows = run(server, 3.0)
        assert total(rows, "finished") > 0
        assert server._session.generator.take_failures() == []


def test_a_piece_too_long_is_a_lost_request_with_its_cause(
    fake_vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envs.live.load_generator._LONGEST_PIECE_BYTES", 1024)
    fake_vllm.fault(padding=50 * 1024)
    with live(attach(fake_vllm), small_workload(rate=8.0)) as server:
        server.reset(1)
        with pytest.raises(RequestsRefusedError, match="a request failed"):
            run(server, 6.0)
        assert server._accounts.in_flight == 0


def test_a_device_that_stalls_is_no_dead_server(
    fake_vllm: FakeVllm, fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled_s, read = [0.0], Nvml.read

    def slow_read(self: Nvml) -> Reading:
        time.sleep(stalled_s[0])
        return read(self)

    monkeypatch.setattr(Nvml, "read", slow_read)
    config = attach(fake_vllm, device=Nvml(), on_failure="restart")
    with live(config) as server:
        sampler = server._session._sampler
        assert sampler is not None
        sampler._timeout_s = 0.3
        server.reset(1)
        fake_gpus.change(0, energy=2_000_000)
        run(server, 0.5)
        stalled_s[0] = 1.2
        row = server.advance(0.25)
        assert server.extras["power_stalled"] == 1.0
        assert row.power_w == 260.0
        told_j = row.energy_gpu_j
        assert told_j == pytest.approx(260.0 * row.duration_s, rel=0.5)
        stalled_s[0] = 0.0
        time.sleep(1.2)
        fake_gpus.change(0, energy=2_500_000)
        while server.extras["power_stalled"]:
            told_j += row.energy_gpu_j
            row = server.advance(0.25)
        rows = [row, *run(server, 0.5)]
        assert told_j + total(rows, "energy_gpu_j") == pytest.approx(500.0, abs=350.0)
        stalled_s[0] = 60.0
        with pytest.raises(DeviceStalledError, match="4 intervals"):
            run(server, 5.0)
        assert server.events == []  # nothing was restarted
        stalled_s[0] = 0.0
