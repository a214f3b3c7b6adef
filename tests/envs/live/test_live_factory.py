"""The live environment as gymnasium.make builds it, around a fake vLLM."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from live_support import PATIENCE_S, FakeVllm, attach, small_workload
from omegaconf import OmegaConf

import envs  # noqa: F401 - registers the environments
from envs import catalog
from envs.errors import ConfigurationError
from envs.live.config import VllmServerConfig
from envs.live.factory import make_live
from envs.live.process import Launch
from envs.live.server import LiveServer
from envs.scenario import Scenario
from envs.telemetry import Telemetry
from experiments.profiling.sweep import ProfileConfig, sweep

PROFILE = """{"key": "k", "rows": [
 {"power_cap_w": 200.0, "max_num_seqs": 8, "tensor_parallel": 1, "expert_parallel": 1,
  "data_parallel": 1, "throughput_tok_s": 150.0, "power_w": 190.0},
 {"power_cap_w": 400.0, "max_num_seqs": 8, "tensor_parallel": 1, "expert_parallel": 1,
  "data_parallel": 1, "throughput_tok_s": 320.0, "power_w": 380.0}]}"""


def test_the_same_spaces_and_info_as_the_simulator(fake_vllm: FakeVllm) -> None:
    server = {
        "base": "vllm_cpu", "control": True, "send_load": True, "url": fake_vllm.url,
        "server_pid": fake_vllm.process.pid,
        "device": {"mechanism": "signals", "use_rapl": False}, "max_num_seqs": 8,
        "capacity_tok_s": 300.0, "launch": {"model": None}, "max_client_lag_s": PATIENCE_S,
        "call_timeout_s": PATIENCE_S,
    }  # fmt: skip
    env: Any = gymnasium.make(
        "pals/VLLM-v0", server=server, workload=small_workload(), interval_s=0.25
    )
    assert env.spec.nondeterministic
    simulated = gymnasium.make("pals/Simulated-v0")
    assert env.observation_space.shape == simulated.observation_space.shape
    assert type(env.action_space) is type(simulated.action_space)
    try:
        observation, _ = env.reset(seed=1)
        for _ in range(6):
            observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert observation in env.observation_space
            assert np.isfinite(reward)
            assert not terminated
            assert not truncated
        _, info_simulated = simulated.reset(seed=1)
        _, _, _, _, info_simulated = simulated.step(simulated.action_space.sample())
        assert set(info) == set(info_simulated)
        assert set(info["rewards"]) == set(info_simulated["rewards"])
        assert info["telemetry"].power_source == "modelled"
        assert env.unwrapped.system.extras["interval_overrun_s"] >= 0
    finally:
        env.close()
        simulated.close()
    assert fake_vllm.limit()["max_num_seqs"] == 8


@pytest.mark.long
def test_an_unknown_capacity_names_the_command(fake_vllm: FakeVllm) -> None:
    closed = catalog.build("workload", {"base": "closed_loop", "concurrency": 4})
    env = make_live(server=attach(fake_vllm, capacity_tok_s=None), workload=closed)
    try:
        with pytest.raises(ConfigurationError, match=r"python -m experiments\.profile"):
            env.reset(seed=1)
        env.system.reset(1)  # a profile is measured without it
    finally:
        env.close()
    with pytest.raises(ConfigurationError, match=r"profile\.path"):
        make_live(
            server=attach(fake_vllm, capacity_tok_s=None),
            workload=small_workload(rate=None, load=0.5),
        )


@pytest.mark.long
def test_capacity_comes_from_a_profile(fake_vllm: FakeVllm, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text(PROFILE)
    load = small_workload(rate=None, load=0.5)
    server = attach(fake_vllm, capacity_tok_s=None, profile_path=str(file))
    env = make_live(server=server, workload=load)
    try:
        assert env.system.capacity_tok_s == 320.0
        assert env.system.rated_power_w == 380.0
        assert env.system.offered_tok_s == pytest.approx(160.0)
    finally:
        env.close()
    damaged = (PROFILE.replace("320.0", "Infinity"), PROFILE.replace("380.0", "NaN"))
    assert all(text != PROFILE for text in damaged)
    others = [("{}", "no profile"), (PROFILE.replace(": 1,", ": 2,"), "no row")]
    for text, message in [*((text, "above 0") for text in damaged), *others]:
        file.write_text(text)
        bad = attach(fake_vllm, capacity_tok_s=None, profile_path=str(file))
        with pytest.raises(ConfigurationError, match=message):
            make_live(server=bad, workload=load)


@pytest.mark.long
def test_caps_to_choose_from(fake_vllm: FakeVllm) -> None:
    def caps(gpu: Any = None, **settings: Any) -> tuple[float, ...]:
        env = make_live(server=attach(fake_vllm, **settings), workload=small_workload(), gpu=gpu)
        env.close()
        return env.context.grid.power_caps_w

    assert caps() == (100.0, 160.0, 220.0, 280.0, 340.0, 400.0)
    assert caps("a100_sxm4_80gb", cap_floor_w=240.0) == (250.0, 300.0, 350.0, 400.0)
    assert caps(power_caps_w=[300.0, 150.0]) == (150.0, 300.0)
    with pytest.raises(ConfigurationError, match=r"server\.power_caps_w"):
        caps(power_caps_w=[900.0])


def test_the_profile_named_for_controllers_serves_the_server_too() -> None:
    """``profile.path`` is given once; the server's own key follows it."""
    for name in ("vllm", "vllm_cpu"):
        alone = catalog.build("server", name)
        assert alone.profile_path is None
        whole = OmegaConf.create(
            {"server": catalog.load("server", name), "profile": {"path": "/p.json"}}
        )
        assert whole.server.profile_path == "/p.json"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"url": "http://a", "launch": Launch(model="m")}, "server.url"),
        ({"on_failure": "retry"}, "server.on_failure"),
        ({"batch_limit": "kill"}, "server.batch_limit"),
        ({"max_num_seqs": 0}, "server.max_num_seqs"),
        ({"stall_timeout_s": 0.0}, "server.stall_timeout_s"),
        ({"first_token_id": 9, "last_token_id": 3}, "server.first_token_id"),
        ({"power_caps_w": []}, "server.power_caps_w"),
    ],
)
def test_impossible_settings_name_their_key(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        VllmServerConfig(**settings)


def test_a_missing_interpreter_and_a_bad_address_are_told() -> None:
    with pytest.raises(ConfigurationError, match=r"server\.launch\.python"):
        _ = Launch(model="m", python="/nowhere/venv").interpreter
    with pytest.raises(ConfigurationError, match=r"launch\.python: there is no \.venv-nowhere"):
        _ = Launch(model="m", python=".venv-nowhere").interpreter
    assert Launch(model="m", python="env").interpreter == "env"
    from envs.live.host import Host

    with pytest.raises(ConfigurationError, match=r"server\.url"):
        Host(VllmServerConfig(url="localhost:8000"))


def test_external_traffic_cannot_be_simulated() -> None:
    with pytest.raises(ConfigurationError, match="server=vllm"):
        gymnasium.make("pals/Simulated-v0", workload="external").reset(seed=1)


@pytest.mark.parametrize("sets", [True, False])
def test_a_profile_asks_the_server_for_its_batch_limit(
    fake_vllm: FakeVllm, sets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with ``server=vllm``, which names none."""
    in_flight, advance = [], LiveServer.advance

    def advance_until_full(self: LiveServer, seconds: float) -> Telemetry:
        """A busy machine takes its time to fill the batch."""
        in_flight.append(self.workload.concurrency)
        end = time.monotonic() + PATIENCE_S
        while (row := advance(self, seconds)).running < 8.0 or row.output_tokens == 0:
            assert time.monotonic() < end, "the batch did not become full in time"
        return row

    monkeypatch.setattr(LiveServer, "advance", advance_until_full)
    server = {
        "base": "vllm_cpu", "control": sets, "send_load": True, "url": fake_vllm.url,
        "server_pid": fake_vllm.process.pid, "power_caps_w": [400.0], "launch": {"model": None},
        "device": {"mechanism": "signals", "use_rapl": False}, "max_num_seqs": None,
        "call_timeout_s": PATIENCE_S,
    }  # fmt: skip
    requests = small_workload(output_scale=3.0)  # so long that none ends while the others come
    given = {"server": server, "workload": requests, "model": None, "gpu": None}
    scenario = Scenario.of(**given, action={"base": "grid", "max_num_seqs": [8]})
    rows = sweep(scenario, ProfileConfig(settle_s=0.1, measure_s=0.3))
    assert [row.max_num_seqs for row in rows] == [8]
    assert set(in_flight) == {16}  # two for each place of the batch
    assert rows[0].running == 8.0  # its batch was kept full
    assert rows[0].throughput_tok_s > 0.0
