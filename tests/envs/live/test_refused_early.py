"""What can be refused is refused before a knob is taken: control begins with the first episode."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from live_support import FakeVllm, attach, live, small_workload
from test_service_ends import service

from envs.catalog import CONF_DIR
from envs.errors import ConfigurationError, DeviceError, ServerError
from envs.live.batch_limit import BatchLimit
from envs.live.devices.nvml import Nvml
from envs.live.errors import BatchLimitError, LimitHeldError
from envs.live.http_client import HttpClient
from envs.live.server import LiveServer
from envs.scenario import Scenario
from experiments.app.schemas import register
from experiments.profiling.sweep import ProfileConfig, sweep


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("controller=mpc", "profile: this controller needs an offline profile"),
        ("controller=oracle", "only the simulator can do"),
        ("service.port={port}", "service.port: cannot listen"),
    ],
)
def test_what_the_service_cannot_do_is_told_before_anything_is_touched(
    fake_vllm: FakeVllm, fake_gpus: Any, tmp_path: Path, override: str, said: str
) -> None:
    fake_gpus.set({"limit": 250_000})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        more = override.format(port=taken.getsockname()[1])
        with service(fake_vllm.url, tmp_path, last=[more]) as process:
            assert process.wait(60.0) == 1
    log = (tmp_path / "said").read_text()
    assert re.search(rf"^\d{{4}}-\d\d-\d\dT[\d:]{{8}}Z ERROR .*{said}", log, re.MULTILINE)
    assert fake_gpus.state["log"] == []


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"capacity_tok_s": None}, r"server\.capacity_tok_s: workload\.load"),
        ({"capacity_tok_s": None, "profile_path": "/nowhere.json"}, r"server\.profile_path: "),
    ],
)
def test_a_capacity_that_nobody_knows_is_told_before_a_server_is_asked(
    fake_vllm: FakeVllm, known: dict[str, Any], said: str
) -> None:
    config = attach(fake_vllm, device=Nvml(), **known)
    fake_vllm.stop()
    with pytest.raises(ConfigurationError, match=said):
        LiveServer(config, small_workload(rate=None, load=0.5))


def test_no_model_is_taken_for_the_one_that_is_served() -> None:
    """What is planned with another model's numbers is worse than what is refused."""
    register()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        assert compose("control").get("model") is None
        assert compose("control", overrides=["model=gpt2"]).model is not None


def test_control_begins_with_the_first_episode(fake_vllm: FakeVllm, fake_gpus: Any) -> None:
    fake_gpus.set({"limit": 250_000})
    with live(attach(fake_vllm, device=Nvml())) as server:
        assert fake_gpus.state["log"] == []
        assert fake_vllm.limit()["owner"] is None
        server.reset(1)
        owner = fake_vllm.limit()["owner"]
        assert owner is not None
        server.reset(2)
        assert fake_vllm.limit()["owner"] == owner
    assert fake_gpus.limits_w == [250.0]
    assert fake_vllm.limit()["owner"] is None


def test_what_others_lower_until_then_is_no_more_exceeded(
    fake_vllm: FakeVllm, fake_gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fake_gpus.set({"limit": 350_000})
    with live(attach(fake_vllm, device=Nvml())) as server:
        fake_gpus.change(0, limit=250_000)
        assert fake_vllm.client.call("PUT", "/pals/batch_limit", {"max_num_seqs": 6})[0] == 200
        server.reset(1)
        server.apply(server.knob_limits.highest)
        server.advance(0.25)
        assert fake_gpus.limits_w == [250.0]
        assert fake_vllm.limit()["max_num_seqs"] == 6
    assert max(value for _, _, value in fake_gpus.state["log"]) == 250_000
    assert "lowered to 250 W meanwhile" in caplog.text
    assert "batch limit of 6" in caplog.text
    assert fake_vllm.limit()["max_num_seqs"] == 6


def test_a_holder_elsewhere_is_told_before_anything_is_touched(
    fake_vllm: FakeVllm, fake_gpus: Any
) -> None:
    held = {"max_num_seqs": 7, "owner": "elsewhere", "lease_s": 60}
    held["instance"] = fake_vllm.limit()["instance"]
    assert fake_vllm.client.call("PUT", "/pals/batch_limit", held)[0] == 200
    with pytest.raises(LimitHeldError, match=r"elsewhere.* ends in \d+ s unless it renews it"):
        LiveServer(attach(fake_vllm, device=Nvml()), small_workload())
    assert fake_gpus.state["log"] == []


@pytest.mark.parametrize(("energy", "error"), [(0, DeviceError), (None, ConfigurationError)])
def test_a_profile_of_nothing_is_refused(
    fake_vllm: FakeVllm, fake_gpus: Any, energy: int | None, error: type[Exception]
) -> None:
    """An energy counter that stands still, and a server that nobody sends requests to."""
    fake_gpus.set({"limit": 250_000, "no_energy": energy is None})
    config = attach(fake_vllm, device=Nvml(), send_load=energy is not None, power_caps_w=[250.0])
    scenario = Scenario.of(
        model=None,
        gpu=None,
        server=config,
        workload=small_workload(),
        action={"base": "grid", "max_num_seqs": [8]},
    )
    with pytest.raises(error, match=r"server\.(device|send_load): "):
        sweep(scenario, ProfileConfig(settle_s=0.2, measure_s=0.5))
    assert fake_gpus.limits_w == [250.0]


def test_a_server_that_cannot_preempt_is_told_before_control_is_taken() -> None:
    told = {"max_num_seqs": 8, "preempts": False, "owner": None}
    control = BatchLimit(HttpClient("http://127.0.0.1:1", {}, 1.0))
    control.check(told, "drain")
    with pytest.raises(BatchLimitError, match=r"server\.batch_limit=drain"):
        control.check(told, "preempt")


def test_one_setting_is_measured_under_the_load_of_the_servers_users(
    fake_vllm: FakeVllm, fake_gpus: Any
) -> None:
    config = attach(fake_vllm, device=Nvml(), control=False, send_load=False)
    fake_gpus.set({"limit": 250_000, "no_energy": True})
    body = {"model": "fake", "prompt": [1, 2, 3], "max_tokens": 1000, "ignore_eos": True}
    users = HttpClient(fake_vllm.url, {}, 60.0)

    def use() -> None:
        with contextlib.suppress(ServerError):  # it is ended before it is done
            users.call("POST", "/v1/completions", body)

    user = threading.Thread(target=use)
    user.start()
    scenario = Scenario.of(model=None, gpu=None, server=config, workload=small_workload())
    (row,) = sweep(scenario, ProfileConfig(settle_s=0.2, measure_s=0.5))
    fake_vllm.stop()
    user.join()
    assert row.throughput_tok_s > 0.0
    assert (row.power_cap_w, row.max_num_seqs) == (250.0, 8)
