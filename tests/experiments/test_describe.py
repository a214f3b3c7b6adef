"""What would be simulated can be asked for, and is in the record of every run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from envs.errors import ConfigurationError
from envs.factory import build_server_spec
from envs.scenario import Scenario
from experiments.describe import main as describe
from experiments.records.description import describe_choice, describe_scenario
from experiments.run import main as run

GRANITE = {
    "model_type": "granitemoehybrid", "num_hidden_layers": 10, "hidden_size": 1024,
    "num_attention_heads": 16, "num_key_value_heads": 4, "intermediate_size": 256,
    "shared_intermediate_size": 512, "num_local_experts": 8, "num_experts_per_tok": 2,
    "mamba_d_state": 64, "mamba_n_heads": 32, "mamba_d_head": 64, "vocab_size": 32000,
    "max_position_embeddings": 4096, "tie_word_embeddings": True,
    "layer_types": ["attention" if i in (3, 8) else "mamba" for i in range(10)],
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GRANITE))
    return path


def test_a_file_is_described_as_it_is_simulated(file: Path, command, tmp_path: Path) -> None:
    outcome = command(describe, f"model={file}", "server.tensor_parallel=1")
    assert outcome.code == 0, outcome.err
    written = json.loads((tmp_path / "out" / "describe.json").read_text())
    spec = build_server_spec(Scenario(model=str(file), server={
        "base": "simulated", "tensor_parallel": 1}))  # fmt: skip
    assert written["total_params"] == spec.model.total_params
    assert written["kv_bytes_per_token"] == 2 * 2 * 4 * 64 * 2
    assert written["weight_bytes"] == spec.model.weight_bytes == 2 * written["total_params"]
    assert written["capacity_tok_s"] == spec.capacity_tok_s > 0
    assert written["kv_cache_tokens"] >= spec.spec.kv_blocks * 16
    assert written["layer_kinds"] == {"full_attention": 2, "linear_or_state": 8, "experts": 10}
    assert "8 linear_or_state" in outcome.out


def test_a_run_of_a_file_records_what_was_simulated(file: Path, command, tmp_path: Path) -> None:
    options = (f"model={file}", "controller=static", "duration=10", "server.tensor_parallel=1")
    outcome = command(run, *options)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out"
    written = json.loads((folder / "describe.json").read_text())
    assert (written["layers"], written["family"]) == (10, "granitemoehybrid")
    stated = OmegaConf.load(folder / "config.yaml").model
    assert set(stated) <= {"_target_", "path", "read_as"}


def test_windows_and_latents_are_kinds_of_their_own() -> None:
    kinds = describe_scenario(Scenario(model="gpt_oss_20b"))["layer_kinds"]
    assert kinds == {"full_attention": 12, "sliding_attention": 12, "experts": 24}
    latent = describe_scenario(Scenario(model="deepseek_v3", gpu="h200_sxm", server={
        "base": "simulated", "tensor_parallel": 16}))  # fmt: skip
    assert latent["layer_kinds"] == {
        "latent_attention": 61, "dense_feed_forward": 3, "experts": 58,
    }  # fmt: skip


def test_a_live_server_is_not_described() -> None:
    for describing in (describe_scenario, describe_choice):
        with pytest.raises(ConfigurationError, match="server=simulated"):
            describing(Scenario(server="vllm"))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("deepseek_v3", "does not fit"),
        ({"base": "llama31_8b", "heads": 71, "kv_heads": 1}, "server.tensor_parallel"),
        ({"base": "llama31_8b", "max_model_len": 8}, "not one request"),
    ],
)
def test_a_model_that_cannot_be_served_is_described_with_the_reason(
    model: str | dict[str, object], said: str
) -> None:
    described = describe_choice(Scenario(model=model))
    assert said in described["problem"]
    assert described["total_params"] > 0
    assert described["capacity_tok_s"] is None
    json.dumps(described, allow_nan=False)


def test_a_part_that_is_wrong_by_itself_is_refused() -> None:
    for parts in ({"gpu": "no_such"}, {"workload": "no_such"}, {"model": {"base": "gpt2",
                  "layers": 0}}, {"model": None}):  # fmt: skip
        with pytest.raises(ConfigurationError):
            describe_choice(Scenario(**parts))
