"""Environments are built from names, mappings, objects and files; errors name their key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import envs  # noqa: F401 - registers the environments
from envs import catalog
from envs.errors import ConfigurationError, InfeasibleModelError
from envs.factory import build_model, build_server_spec, make_simulated
from envs.scenario import Scenario
from envs.simulator.server import SimulatedServer
from envs.workloads.poisson import Poisson

SMALL = {"model": "gpt2", "server": {"base": "simulated", "tensor_parallel": 1}}
MISTRAL = {
    "model_type": "mistral", "num_hidden_layers": 32, "hidden_size": 4096,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    "vocab_size": 32000, "max_position_embeddings": 32768, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def test_the_default_is_mixtral_on_four_a100() -> None:
    server_spec = build_server_spec(Scenario())
    assert (server_spec.model.name, server_spec.gpu.name, server_spec.num_gpus) == (
        "mixtral_8x7b", "a100_sxm4_80gb", 4,
    )  # fmt: skip
    assert server_spec.rate_per_s == pytest.approx(0.7 * server_spec.saturated.requests_per_s)


def test_a_choice_may_be_a_name_a_mapping_or_an_object() -> None:
    by_name = build_server_spec(Scenario(workload="poisson_gsm8k", **SMALL))
    by_mapping = build_server_spec(
        Scenario(workload={"base": "poisson_gsm8k", "rate": 3.0}, **SMALL)
    )
    by_object = build_server_spec(Scenario(workload=Poisson(rate=3.0), **SMALL))
    assert by_name.workload.load == 0.7
    assert by_mapping.rate_per_s == by_object.rate_per_s == 3.0


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"model": "mixtral"}, ["model: no choice named 'mixtral'", "mixtral_8x7b"]),
        ({"gpu": "a100"}, ["gpu: no choice named 'a100'", "a100_sxm4_80gb"]),
        ({"workload": "poison"}, ["workload: no choice named", "poisson_gsm8k"]),
        ({"objective": "none"}, ["objective: no choice named", "throughput_target"]),
        ({"action": "box"}, ["action: no choice named", "continuous"]),
        ({"reward": "mine"}, ["reward: no choice named", "efficiency_only"]),
        ({"server": "tgi"}, ["server: no choice named", "simulated"]),
        ({"calibration": "v100"}, ["calibration: no choice named", "a100_sxm4_80gb"]),
        ({"workload": {"base": "poisson_gsm8k", "rates": 3}}, ["rates"]),
        ({"workload": {"rate": 3}}, ["workload", "base"]),
        ({"workload": {"base": "poisson_gsm8k", "rate": "fast"}}, ["rate", "fast"]),
        ({"workload": {"base": "poisson_gsm8k", "rate": -1.0}}, ["workload.rate", "-1"]),
        ({"workload": {"base": "poisson_gsm8k", "load": 0.0}}, ["workload.load", "0"]),
        ({"workload": {"base": "closed_loop", "concurrency": 0}}, ["workload.concurrency"]),
        ({"server": {"base": "simulated", "max_num_seqs": 0}}, ["server.max_num_seqs"]),
        ({"server": {"base": "simulated", "num_gpus": 3}}, ["server.num_gpus", "4 x 1"]),
        (
            {"server": {"base": "simulated", "max_num_batched_tokens": 8}},
            ["server.max_num_batched_tokens", "server.max_num_seqs"],
        ),
        ({"server": {"base": "simulated", "gpu_memory_utilization": 1.5}}, ["utilization"]),
        (
            {"server": {"base": "simulated", "max_model_len": 40_000}},
            ["server.max_model_len", "40000", "mixtral_8x7b", "32768"],
        ),
        ({"action": {"base": "grid", "max_num_seqs": [128]}}, ["action.max_num_seqs", "1-64"]),
        ({"action": {"base": "grid", "power_caps_w": [50.0]}}, ["action.power_caps_w", "100"]),
        ({"interval_s": 0.0}, ["interval_s: must be >= 0.001", "got 0.0"]),
        ({"interval_s": 2.0, "duration_s": 1.0}, ["duration", "interval"]),
        ({"modell": "gpt2"}, ["modell", "model", "workload"]),
        ({"reward": {"base": "default", "qos_definition": "mine"}}, ["reward.qos_definition"]),
    ],
)
def test_a_wrong_choice_is_refused_with_its_key(choices: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        gymnasium.make("pals/Simulated-v0", **{"model": "mixtral_8x7b", **choices})
    for word in words:
        assert word in str(caught.value)


def test_a_model_that_does_not_fit_says_what_to_do() -> None:
    with pytest.raises(InfeasibleModelError, match="llama31_405b") as caught:
        make_simulated(model="llama31_405b")
    for word in ("a100_sxm4_80gb", "server.tensor_parallel", "gpu="):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("gpu", "budget"),
    [("a100_sxm4_40gb", 2048), ("a100_sxm4_80gb", 2048), ("h100_sxm", 8192), ("b200", 16_384)],
)
def test_the_token_budget_is_vllms_default_for_the_gpu(gpu: str, budget: int) -> None:
    assert build_server_spec(Scenario(model="gpt2", gpu=gpu)).spec.max_num_batched_tokens == budget
    given = {"base": "simulated", "max_num_batched_tokens": 300}
    assert (
        build_server_spec(Scenario(model="gpt2", gpu=gpu, server=given)).spec.max_num_batched_tokens
        == 300
    )


def test_a_cache_too_small_for_the_context_asked_for_says_so() -> None:
    server = {"base": "simulated", "tensor_parallel": 1, "max_model_len": 4096}
    tight = server | {"gpu_memory_utilization": 0.198}
    with pytest.raises(ConfigurationError, match=r"server\.max_model_len: 4096.*KV cache"):
        make_simulated(model="llama2_7b", server=tight)
    assert (
        make_simulated(model="llama2_7b", server=server).system.server_spec.spec.max_model_len
        == 4096
    )
    with pytest.raises(InfeasibleModelError, match=r"3875 tokens.*server\.block_size=4096"):
        make_simulated(model="llama2_7b", server=tight | {"block_size": 4096})


def test_requests_longer_than_the_context_are_an_error_not_a_hang() -> None:
    program = (
        "from envs.factory import make_simulated\n"
        f"make_simulated(workload='long_context', **{SMALL!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=900, check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert "ConfigurationError: workload: not one request" in done.stderr
    assert "context (1024 tokens)" in done.stderr


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_users_model_comes_from_its_config_json(tmp_path: Path, where: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(MISTRAL))
    path = str(file if where == "file" else tmp_path)
    ours, named = build_model(path), catalog.build("model", "mistral_7b")
    assert ours.weight_bytes == pytest.approx(named.weight_bytes, rel=1e-6)
    assert ours.kv_bytes_per_token == named.kv_bytes_per_token
    env = gymnasium.make("pals/Simulated-v0", model=path)
    env.reset(seed=0)
    info = env.step(env.action_space.sample())[4]
    assert info["telemetry"].output_tokens > 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["cannot read", "config.json"]),
        ("{", ["cannot be read as JSON", "config.json"]),
        ("[]", ["no JSON object"]),
        (json.dumps({k: v for k, v in MISTRAL.items() if k != "vocab_size"}), ["vocab_size"]),
    ],
)
def test_a_bad_config_json_is_refused(
    tmp_path: Path, content: str | None, words: list[str]
) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        build_model(str(file))
    for word in ("model", *words):
        assert word in str(caught.value)


def test_the_reference_runs_beside_only_when_the_reward_reads_it() -> None:
    plain = make_simulated(**SMALL)
    reading = make_simulated(reward={"base": "default", "qos_definition": "reference"}, **SMALL)
    assert plain._reference is None
    assert isinstance(reading._reference, SimulatedServer)


def test_domain_randomisation_draws_physics_again_for_every_episode() -> None:
    doubtful = {
        "base": "a100_sxm4_80gb",
        "uncertainty": {"busy_power_w": 0.2},
        "ranges": {"cap_settling_s": [0.05, 2.0]},
    }

    def energies(randomise: bool) -> list[float]:
        env = make_simulated(domain_randomization=randomise, calibration=doubtful, **SMALL)
        server = env.system
        found = []
        for _ in range(3):
            server.reset(seed=1)
            found.append(server.advance(5.0).energy_gpu_j)
        server.reset(seed=2)
        return [*found, server.advance(5.0).energy_gpu_j]

    fixed, drawn = energies(False), energies(True)
    assert fixed[0] == fixed[1] == fixed[2]
    assert drawn[0] == drawn[1] == drawn[2] != fixed[0]
    assert drawn[3] / fixed[3] != pytest.approx(drawn[0] / fixed[0], rel=1e-6)
