"""Published configurations are read right, or refused with the keys that were not understood."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from published_models import LLAMA, PUBLISHED, Published
from support.model_specs import spec_in, spec_of

from envs.errors import ConfigurationError
from envs.simulator.architectures.table import BY_TYPE, TABLE, defaults_by_type
from envs.simulator.models import ModelSpec


@pytest.mark.parametrize("case", PUBLISHED.values(), ids=PUBLISHED)
def test_weights_cache_and_precision_are_the_published_ones(case: Published) -> None:
    spec = spec_of(case.config, "model")
    assert spec.total_params / 1e9 == pytest.approx(case.billions, rel=0.01)
    assert spec.kv_bytes_per_token == case.cache
    assert spec.weight_precision == case.weights
    assert spec.expert_precision == (case.experts or case.weights)


def test_the_collected_configurations_are_read_right(data_dir: Path) -> None:
    folder = data_dir.parent / "cases" / "models"
    if not folder.is_dir():
        pytest.skip(f"no collected configurations at {folder}")
    with (folder / "expected.csv").open() as file:
        for row in csv.DictReader(file):
            spec = spec_in(folder / row["model"])
            assert spec.kv_bytes_per_token == float(row["kv_bytes_per_token_bf16"]), row
            # Falcon's and StarCoder2's numbers count the tied embedding twice: 4 and 2 %.
            total = float(row["total_params_billion"])
            assert spec.total_params / 1e9 == pytest.approx(total, rel=0.045), row
            active = float(row["active_params_billion"])
            assert active * 0.955 < spec.active_params / 1e9 < active * 1.35, row


def test_windows_are_stated_by_layer_and_shorter_than_the_context() -> None:
    gemma = spec_of(PUBLISHED["defaults of a nested configuration"].config)
    assert gemma.sliding_window_tokens == 1024
    assert gemma.sliding_window_fraction == pytest.approx(29 / 34)
    assert gemma.max_model_len == 131072
    assert 0.3e9 < gemma.encoder_params < 0.5e9
    assert gemma.weight_bytes > 2.0 * gemma.total_params
    long = {**LLAMA, "model_type": "phi3", "sliding_window": 262144,
            "max_position_embeddings": 131072}  # fmt: skip
    assert spec_of(long).sliding_window_tokens == 0
    chunked = spec_of(PUBLISHED["interleaved experts"].config)
    assert (chunked.sliding_window_tokens, chunked.sliding_window_fraction) == (8192, 0.75)


def test_encoders_take_memory_where_a_file_names_only_what_prepares_their_input() -> None:
    """As Phi-4's does: some 0.4 and 0.2 billion weights beside the language model."""
    read = {
        "embd_layer": {"image_embd_layer": {"crop_size": 448}},
        "audio_processor": {"config": {"attention_dim": 1024, "num_blocks": 24}},
    }
    spoken = spec_of({**LLAMA, "model_type": "phi4mm", **read})
    plain = spec_of({**LLAMA, "model_type": "phi4mm", "embd_layer": None})
    assert 0.6e9 < spoken.encoder_params < 0.9e9
    assert spoken.weight_bytes == plain.weight_bytes + 2.0 * spoken.encoder_params
    assert spoken.total_params == plain.total_params


def test_a_hybrid_says_how_many_layers_are_of_which_kind() -> None:
    spec = spec_of(PUBLISHED["layers that are one thing each"].config)
    assert (spec.layers, spec.attention_layers, spec.linear_layers) == (52, 4, 24)
    assert (spec.mlp_free_layers, spec.mlp_matrices) == (28, 2)
    assert spec.linear_state_bytes > 0


@pytest.mark.parametrize(
    ("scaling", "tokens"),
    [
        ({"type": "linear", "factor": 4.0}, 8192),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, 16384),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 2048),
    ],
)
def test_the_context_is_what_rotary_scaling_makes_it(scaling: dict[str, Any], tokens: int) -> None:
    config = {**LLAMA, "max_position_embeddings": 2048, "rope_scaling": scaling}
    assert spec_of(config).max_model_len == tokens
    stated = {**config, "rope_scaling": None, "model_max_length": 65536}
    assert spec_of(stated).max_model_len == 65536


def test_modules_that_are_not_converted_stay_in_16_bits() -> None:
    quantised = {"quant_method": "fp8", "modules_to_not_convert": ["lm_head"]}
    whole = spec_of({**LLAMA, "quantization_config": quantised})
    some = [*(f"model.layers.{i}.self_attn" for i in range(8)), "model.layers.31.mlp.down_proj"]
    part = {**quantised, "modules_to_not_convert": some}
    kept = spec_of({**LLAMA, "quantization_config": part})
    attention, down = 8 * 4096 * 128 * 2 * (32 + 8), 4096 * 14336
    assert whole.unconverted_params == 0
    assert kept.unconverted_params == attention + down
    assert kept.dense_bytes == whole.dense_bytes + attention + down
    star = {"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["model.layers.*.mlp"]}
    assert spec_of({**LLAMA, "quantization_config": star}).unconverted_params


UNKNOWN = {**LLAMA, "model_type": "strange", "architectures": ["StrangeForCausalLM"],
           "memory_slots": 12}  # fmt: skip


def test_an_unknown_architecture_is_refused_with_its_keys(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(UNKNOWN))
    with pytest.raises(ConfigurationError, match=r"StrangeForCausalLM.*memory_slots") as caught:
        spec_in(tmp_path)
    assert "model.read_as" in str(caught.value)
    assert str(tmp_path / "config.json") in str(caught.value)
    nameless = {key: value for key, value in LLAMA.items() if key != "model_type"}
    with pytest.raises(ConfigurationError, match="of no name"):
        spec_of(nameless)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_experts_in_layer": 8}, "num_experts_in_layer"),
        ({"mamba_d_state": 16}, "mamba_d_state"),
        ({"kv_lora_rank": 512}, "kv_lora_rank"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_hidden_layers": -3}, "num_hidden_layers"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_attention_heads": "32"}, "num_attention_heads"),
        ({"num_key_value_heads": 64}, "num_key_value_heads"),
        ({"num_key_value_heads": 5}, "num_key_value_heads"),
        ({"architectures": ["MixtralForCausalLM"]}, "two architectures"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": 1e300}, "hidden_size"),
        ({"hidden_size": float("nan")}, "hidden_size"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"layer_types": ["odd"] * 32}, "layer_types"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        ({"rope_scaling": 8}, "rope_scaling"),
        ({"text_config": [1]}, "text_config"),
        ({"quantization_config": "awq"}, "quantization_config"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 5}}, "bits"),
        ({"quantization_config": {"quant_method": "fp8", "ignore": ["re:(a+)+$"]}}, r"\(a\+\)"),
    ],
)
def test_what_is_not_understood_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        spec_of({**LLAMA, **change})


def test_a_model_without_a_cache_is_refused() -> None:
    recurrent = {**LLAMA, "model_type": "bamba", "mamba_n_heads": 64, "mamba_d_state": 128}
    with pytest.raises(ConfigurationError, match="KV cache"):
        spec_of(recurrent)
    shape = {"hidden": 64, "layers": 2, "heads": 4, "vocab": 100, "mlp_intermediate": 256}
    with pytest.raises(ConfigurationError, match=r"model\.attention_free_layers"):
        ModelSpec(**shape, linear_layers=2, linear_params_per_layer=9)


def test_a_model_whose_layers_all_read_the_caches_of_others_is_refused() -> None:
    shared = {
        "model_type": "gemma3n", "text_config": {"model_type": "gemma3n_text",
        "num_hidden_layers": 10, "intermediate_size": 512, "num_kv_shared_layers": 10},
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match="KV cache"):
        spec_of(shared)


@pytest.mark.parametrize(("full", "linear"), [([1, 2], [2, 3, 4]), ([4], [1, 2]), ([4], [0, 1, 2])])
def test_layers_that_are_listed_twice_or_never_are_refused(
    full: list[int], linear: list[int]
) -> None:
    lists = {"full_attn_layers": full, "kda_layers": linear, "num_heads": 4, "head_dim": 64}
    kimi = {**LLAMA, "model_type": "kimi_linear", "architectures": ["KimiLinearForCausalLM"],
            "num_hidden_layers": 4, "linear_attn_config": lists}  # fmt: skip
    with pytest.raises(ConfigurationError, match="each of the 4 layers once"):
        spec_of(kimi)


def test_every_name_stands_for_one_architecture() -> None:
    names = [name for family in TABLE for name in (*family.types, *family.classes)]
    assert len(names) == len(set(names))
    assert set(defaults_by_type()) <= set(BY_TYPE)


def test_chunked_attention_is_told_from_sliding_windows() -> None:
    llama4 = {
        **LLAMA, "model_type": "llama4_text", "num_local_experts": 16, "num_experts_per_tok": 1,
        "intermediate_size_mlp": 16384, "attention_chunk_size": 8192,
        "interleave_moe_layer_step": 1,
    }  # fmt: skip
    assert spec_of(llama4).chunked_attention
    every = {**llama4, "layer_types": ["full_attention"] * 32}
    assert not spec_of(every).chunked_attention
    assert not spec_of(LLAMA).chunked_attention


HELIUM = {
    "model_type": "helium", "num_hidden_layers": 24, "hidden_size": 2560, "vocab_size": 48000,
    "intermediate_size": 7040, "num_attention_heads": 20, "num_key_value_heads": 20,
    "head_dim": 128,
}  # fmt: skip
HUNYUAN = PUBLISHED["values in lists, one for each layer"].config
NEMOTRON = PUBLISHED["layers that are one thing each"].config
EXPERTS = {
    "hybrid_override_pattern": "MEM*", "num_hidden_layers": 4, "n_routed_experts": 8,
    "moe_intermediate_size": 7688, "moe_shared_expert_intermediate_size": 7688,
    "num_experts_per_tok": 2,
}  # fmt: skip
ZAMBA = {
    "model_type": "zamba2", "hidden_size": 2560, "num_hidden_layers": 4, "vocab_size": 32000,
    "layers_block_type": ["mamba", "hybrid"] * 2, "num_attention_heads": 32, "n_mamba_heads": 8,
    "intermediate_size": 10240,
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "change", "named"),
    [
        (HELIUM, {"head_dim": 64}, "head_dim of the config.json is 64.*2560 wide"),
        (HELIUM, {"num_attention_heads": 40}, "head_dim of the config.json is 128: 40 heads"),
        (HUNYUAN, {"intermediate_size": 6144}, "moe_intermediate_size .*is 3072 .*6144"),
        (NEMOTRON, {"num_hidden_layers": 51}, "hybrid_override_pattern and num_hidden_layers"),
        (NEMOTRON, {"layers_block_type": ["moe"] * 52}, "and layers_block_type"),
        (NEMOTRON, {"attention_head_dim": 64}, "head_dim and attention_head_dim"),
        (NEMOTRON, {"tie_word_embeddings": True}, "tie_word_embeddings"),
        (ZAMBA, {"attention_hidden_size": 2560}, "attention_hidden_size .*must be 5120"),
        (ZAMBA, {"attention_head_dim": 80}, "attention_head_dim .*must be 160"),
        (ZAMBA, {"mamba_headdim": 64}, "mamba_headdim .*must be 640"),
        (ZAMBA, {"hybrid_layer_ids": [1]}, r"hybrid_layer_ids .*\[1, 3\]"),
        (ZAMBA, {"num_hidden_layers": 3}, "layers_block_type .*must name 3 layers"),
        (ZAMBA, {"tie_word_embeddings": False}, "tie_word_embeddings"),
        (LLAMA, {"torch_dtype": "float99"}, "torch_dtype .*'float99'.*weight_precision"),
        (LLAMA, {"dtype": 16}, "dtype of the config.json is 16"),
        (LLAMA, {"text_config": {**LLAMA, "dtype": "float8_e4m3fn"}}, "dtype .*float8_e4m3fn"),
        (HUNYUAN, {"mlp_only_layers": [0, "x"]}, r"mlp_only_layers\[1\] .*'x'"),
        (HUNYUAN, {"moe_layers": [0, -1]}, r"moe_layers\[1\] .*-1"),
    ],
)
def test_what_engines_read_in_different_ways_is_refused(
    model: dict[str, Any], change: dict[str, Any], named: str
) -> None:
    spec_of(model)
    with pytest.raises(ConfigurationError, match=named):
        spec_of({**model, **change})


@pytest.mark.parametrize("stated", ["torch.bfloat16", "float16", "float32", "auto", None])
def test_known_types_of_unquantised_weights_are_served_in_16_bits(stated: str | None) -> None:
    assert spec_of({**LLAMA, "torch_dtype": stated}).weight_precision == "bf16"


def test_what_a_file_leaves_open_follows_from_what_it_says() -> None:
    small = spec_of({**ZAMBA, "hidden_size": 2048, "intermediate_size": 8192})
    assert small.head_dim == 2 * 2048 // 32


def test_shared_experts_are_one_layer_however_many() -> None:
    two, one, none = (
        spec_of({**NEMOTRON, **EXPERTS, "n_shared_experts": count}) for count in (2, 1, 0)
    )
    assert two.total_params == one.total_params
    assert (one.shared_expert_intermediate, none.shared_expert_intermediate) == (7688, 0)


def test_an_unknown_class_beside_a_known_type_is_told(caplog: pytest.LogCaptureFixture) -> None:
    for known in ("LlamaForCausalLM", "LlamaForSequenceClassification", "LlamaModel"):
        spec_of({**LLAMA, "architectures": [known]})
    assert not caplog.text
    spec_of({**LLAMA, "architectures": ["FooForCausalLM"]})
    assert "FooForCausalLM" in caplog.text
    assert "read as its model_type, llama" in caplog.text


def test_adapters_for_images_and_sounds_take_memory() -> None:
    """Phi-4-multimodal's: 0.37 and 0.46 billion weights by its report."""
    phi = {
        **LLAMA, "model_type": "phi4mm", "num_hidden_layers": 32, "hidden_size": 3072,
        "num_attention_heads": 24, "num_key_value_heads": 8, "intermediate_size": 8192,
    }  # fmt: skip
    adapters = {"vision_lora": {"r": 256, "lora_alpha": 512}, "speech_lora": {"r": 320}}
    spec = spec_of({**phi, **adapters})
    assert spec.encoder_params / 1e9 == pytest.approx(0.37 + 0.46, rel=0.01)
    with pytest.raises(ConfigurationError, match=r"\br of the config.json"):
        spec_of({**phi, "vision_lora": {"r": "x"}})
