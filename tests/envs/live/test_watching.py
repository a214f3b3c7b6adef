"""A server that one attaches to is watched, unless more is asked for."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any

import pytest
from live_support import (
    PATIENCE_S,
    FakeVllm,
    advance_until,
    attach,
    live,
    run,
    small_workload,
    total,
    wait_for,
)  # fmt: skip

from envs.knobs import Knobs
from envs.live import watching
from envs.live.devices.base import Reading
from envs.live.devices.nvml import Nvml
from envs.live.errors import DeviceStalledError, RequestsRefusedError
from envs.live.factory import make_live
from envs.live.process import Launch
from envs.live.sampler import PowerSampler
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
        advance_until(sending, lambda rows: rows[-1].output_tokens > 0)

        def learnt_tok_s() -> float:
            with live(quiet) as server:
                return server.capacity_tok_s

        wait_for(lambda: learnt_tok_s() > 20.0)  # a busy machine may serve none in a second


def test_violations_of_other_clients_requests_reach_the_record(fake_vllm: FakeVllm) -> None:
    with (
        live(attach(fake_vllm, control=False), small_workload(rate=20.0)) as users,
        live(attach(fake_vllm, control=False, send_load=False)) as server,
    ):
        users.reset(1)
        server.set_slos(0.001, 100.0)  # no server is that fast
        server.set_warmup(0.5)
        server.reset(1)

        def seen(_: object) -> bool:
            told = server.latency()
            return told.finished > 10 and told.slo_missed > 5

        rows = advance_until(server, seen)
        record = server.latency()
        late = [row for row in rows if row.time_s > 0.5]
        assert record.finished == total(late, "finished")
        assert record.slo_missed == min(total(late, "slo_missed"), record.finished)
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
    bare = FakeVllm.anywhere("--no-plugin")
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
        advance_until(server, lambda rows: rows[-1].finished > 0)
        assert server._session.generator.take_failures() == []


def test_a_piece_too_long_is_a_lost_request_with_its_cause(
    fake_vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envs.live.load_generator._LONGEST_PIECE_BYTES", 1024)
    fake_vllm.fault(padding=50 * 1024)
    with live(attach(fake_vllm), small_workload(rate=8.0)) as server:
        server.reset(1)
        with pytest.raises(RequestsRefusedError, match="a request failed"):
            run(server, PATIENCE_S)
        server._accounts.take(server._session.generator.take())
        assert server._accounts.in_flight == 0


class Stalling:
    """Stands in for the reading of a device, which can be held up for as long as one likes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._answers, self._waits = threading.Event(), threading.Event()
        self._answers.set()
        read = Nvml.read

        def slow_read(device: Nvml) -> Reading:
            if not self._answers.is_set():
                self._waits.set()
                self._answers.wait(10 * PATIENCE_S)
            return read(device)

        patch.setattr(Nvml, "read", slow_read)

    def begin(self, sampler: PowerSampler) -> None:
        """Returns once a reading is held up."""
        self._waits.clear()
        self._answers.clear()
        with sampler._change:
            sampler._hurry = True
            sampler._change.notify_all()
        assert self._waits.wait(PATIENCE_S)

    def end(self) -> None:
        self._answers.set()


def test_a_device_that_stalls_is_no_dead_server(
    fake_vllm: FakeVllm, fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Stalling(monkeypatch)
    with live(attach(fake_vllm, device=Nvml(), on_failure="restart")) as server:
        sampler = server._session._sampler
        assert sampler is not None

        def stall() -> None:
            sampler._timeout_s, sampler._period_s = 0.3, 0.05
            device.begin(sampler)

        def answer() -> None:
            sampler._timeout_s, sampler._period_s = PATIENCE_S, PATIENCE_S
            device.end()

        sampler._timeout_s = PATIENCE_S
        server.reset(1)
        fake_gpus.change(0, energy=2_000_000)
        began = time.monotonic()
        run(server, 0.5)
        stall()
        row = server.advance(0.25)
        passed_s = time.monotonic() - began
        assert server.extras["power_stalled"] == 1.0
        assert row.power_w == 260.0
        told_j = row.energy_gpu_j
        assert 260.0 * 0.25 <= told_j <= 260.0 * passed_s
        fake_gpus.change(0, energy=52_000_000)
        answer()
        row = server.advance(0.25)
        assert server.extras["power_stalled"] == 0.0
        assert told_j + row.energy_gpu_j == pytest.approx(50_000.0)  # what the counter tells
        stall()
        try:
            with pytest.raises(DeviceStalledError, match="4 intervals"):
                run(server, 5.0)
        finally:
            answer()
        assert server.events == []  # nothing was restarted
