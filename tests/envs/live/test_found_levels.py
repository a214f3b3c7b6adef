"""What was found on a server is read from it, and can be held: it is a level to choose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from live_support import FakeVllm, attach, live, small_workload

from envs.live.config import VllmServerConfig
from envs.live.devices.nvml import Nvml
from envs.live.errors import NoPluginError
from envs.live.factory import make_live
from envs.live.server import LiveServer
from envs.serving import ServingEnv


@contextmanager
def made(config: VllmServerConfig, **parts: Any) -> Iterator[ServingEnv]:
    env = make_live(
        server=config, workload=small_workload(), gpu="a100_sxm4_80gb", interval_s=0.25, **parts
    )
    try:
        yield env
    finally:
        env.close()


@contextmanager
def fake(*arguments: str) -> Iterator[FakeVllm]:
    server = FakeVllm.anywhere(*arguments)
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(("named", "control"), [(None, False), (None, True), (64, False)])
def test_the_highest_batch_limit_is_read_from_the_server(
    fake_vllm: FakeVllm, fake_gpus: Any, control: bool, named: int | None
) -> None:
    config = attach(fake_vllm, device=Nvml(), control=control, send_load=False, max_num_seqs=named)
    with live(config) as server:
        assert server.knob_limits.max_num_seqs == 8
        assert server.reset(1).max_num_seqs == 8


def test_a_limit_above_64_is_not_lowered(fake_gpus: Any) -> None:
    with (
        fake("--max-num-seqs", "100") as server,
        made(attach(server, device=Nvml(), max_num_seqs=None)) as env,
    ):
        assert env.context.highest.max_num_seqs == 100
        env.reset(seed=1)
        assert server.limit()["max_num_seqs"] == 100


def test_a_server_without_the_plug_in_is_watched_all_the_same(
    fake_gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with fake("--no-plugin") as server:
        config = attach(server, device=Nvml(), control=False, send_load=False, max_num_seqs=None)
        with live(config) as watched:
            watched.reset(1)
            watched.advance(0.25)
        assert "server.max_num_seqs (64) is taken for it" in caplog.text
        with pytest.raises(NoPluginError, match="batch_limit=off"):
            LiveServer(attach(server, device=Nvml()), small_workload())


def test_cap_and_batch_limit_found_are_levels(
    fake_gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fake_gpus.set({"limit": 270_000})
    with (
        fake("--max-num-seqs", "24") as server,
        made(attach(server, device=Nvml(), max_num_seqs=None)) as env,
    ):
        highest = env.context.highest
        assert (highest.power_cap_w, highest.max_num_seqs) == (270.0, 24)
        assert env.context.grid.max_num_seqs == (1, 4, 8, 16, 24)
        assert "action.max_num_seqs: 24" in caplog.text
        assert "server.power_caps_w: 270 W" in caplog.text
        env.reset(seed=1)
        env.step(env.encoding.encode(highest, highest))
        assert env._requested == highest
        assert (server.limit()["max_num_seqs"], fake_gpus.limits_w) == (24, [270.0])


def test_levels_that_were_named_leave_out_what_was_found_and_say_so(
    fake_gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fake_gpus.set({"limit": 270_000})
    action = {"base": "grid", "max_num_seqs": [4, 16]}
    with (
        fake("--max-num-seqs", "24") as server,
        made(
            attach(server, device=Nvml(), max_num_seqs=None, power_caps_w=[150.0, 200.0]),
            action=action,
        ) as env,
    ):
        highest = env.context.highest
        assert (highest.power_cap_w, highest.max_num_seqs) == (200.0, 16)
    assert "the batch limit found, 24, is none of the levels asked for" in caplog.text
    assert "the cap found or allowed, 270 W, is none of the caps named" in caplog.text
