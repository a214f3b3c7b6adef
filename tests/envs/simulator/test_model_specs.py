"""Shapes of models: parameter counts of the catalogue, and readers of published config files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from omegaconf import OmegaConf
from support.model_specs import spec_in, spec_of

from envs import catalog
from envs.errors import ConfigurationError
from envs.simulator.models import ModelSpec

BILLIONS = {
    "gpt2": (0.124, 0.124),
    "llama2_7b": (6.74, 6.74),
    "mistral_7b": (7.24, 7.24),
    "olmoe_1b_7b": (6.92, 1.28),
    "qwen15_moe_a27b": (14.3, 2.7),
    "deepseek_moe_16b": (16.4, 2.8),
    "phi35_moe": (41.9, 6.6),
    "mixtral_8x7b": (46.7, 12.9),
    "llama31_70b": (70.6, 70.6),
    "qwen3_30b_a3b": (30.5, 3.3),
    "qwen3_235b_a22b": (235.0, 22.0),
    "gpt_oss_120b": (116.8, 5.7),
    "deepseek_v3": (671.0, 37.5),
    "llama4_maverick_fp8": (400.0, 17.0),
}
"""Total and active parameters as their authors publish them."""


@pytest.mark.parametrize("name", sorted(BILLIONS))
def test_parameter_counts_are_the_published_ones(name):
    spec = catalog.build("model", name)
    total, active = BILLIONS[name]
    assert spec.total_params / 1e9 == pytest.approx(total, rel=0.01)
    assert spec.active_params / 1e9 == pytest.approx(active, rel=0.03)


def test_every_model_of_the_catalogue_fits_together():
    seen: dict[str, str] = {}
    for name in catalog.names("model"):
        if OmegaConf.missing_keys(catalog.load("model", name)):
            continue
        spec = catalog.build("model", name)
        assert spec.name == name
        assert spec.family
        assert 0 < spec.active_params <= spec.total_params
        assert spec.weight_bytes < 4.0 * spec.total_params
        assert spec.kv_bytes_per_token > 0
        for identifier in spec.huggingface_ids:
            assert seen.setdefault(identifier, name) == name


LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    "vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip
MIXTRAL = LLAMA | {
    "model_type": "mixtral", "vocab_size": 32000, "num_local_experts": 8,
    "num_experts_per_tok": 2, "max_position_embeddings": 32768,
}  # fmt: skip
QWEN2_MOE = {
    "model_type": "qwen2_moe", "hidden_size": 2048, "num_hidden_layers": 24,
    "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 5632,
    "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts": 60,
    "num_experts_per_tok": 4, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "vocab_size": 151936, "max_position_embeddings": 8192,
}  # fmt: skip
OLMOE = {
    "model_type": "olmoe", "hidden_size": 2048, "num_hidden_layers": 16,
    "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 1024,
    "num_experts": 64, "num_experts_per_tok": 8, "vocab_size": 50304,
    "max_position_embeddings": 4096,
}  # fmt: skip
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61,
    "num_attention_heads": 128, "num_key_value_heads": 128, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_experts_per_tok": 8, "first_k_dense_replace": 3, "moe_layer_freq": 1,
    "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128,
    "v_head_dim": 128, "vocab_size": 129280, "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip
DEEPSEEK_MOE = {
    "model_type": "deepseek", "hidden_size": 2048, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 10944,
    "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2,
    "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1,
    "vocab_size": 102400, "max_position_embeddings": 4096,
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024,
    "vocab_size": 50257,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "twin"),
    [
        (LLAMA, "llama31_8b"),
        (MIXTRAL, "mixtral_8x7b"),
        (QWEN2_MOE, "qwen15_moe_a27b"),
        (OLMOE, "olmoe_1b_7b"),
        (DEEPSEEK_V3, "deepseek_v3"),
        (DEEPSEEK_MOE, "deepseek_moe_16b"),
        (GPT2, "gpt2"),
    ],
)
def test_a_published_config_gives_the_catalogues_shape(tmp_path, config, twin):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    read, known = spec_in(tmp_path), catalog.build("model", twin)
    assert spec_in(file) == read
    known = replace(known, table_params=read.table_params)  # GPT-2's positions: 0.6 %
    for quantity in (
        "total_params", "active_params", "weight_bytes", "kv_bytes_per_token", "dense_params",
        "expert_params", "experts", "top_k", "moe_layers", "weight_precision", "tied_embeddings",
    ):  # fmt: skip
        assert getattr(read, quantity) == getattr(known, quantity), quantity


def test_sliding_windows_and_nested_text_configs_are_read():
    text = LLAMA | {
        "model_type": "gemma3_text", "sliding_window": 1024, "sliding_window_pattern": 6,
        "num_hidden_layers": 48, "head_dim": 256, "tie_word_embeddings": True,
    }  # fmt: skip
    spec = spec_of({"model_type": "gemma3", "text_config": text}, "gemma")
    assert (spec.sliding_window_tokens, spec.head_dim, spec.tied_embeddings) == (1024, 256, True)
    assert spec.sliding_window_fraction == pytest.approx(5 / 6)
    types = ["sliding_attention", "full_attention"] * 16
    mixed = spec_of(LLAMA | {"sliding_window": 128, "layer_types": types}, "m")
    assert mixed.sliding_window_fraction == pytest.approx(0.5)
    unused = spec_of(LLAMA | {"sliding_window": 4096, "use_sliding_window": False}, "m")
    assert unused.sliding_window_tokens == 0


@pytest.mark.parametrize(
    ("quantization", "precision"),
    [
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
    ],
)
def test_quantised_weights_are_recognised(quantization, precision):
    spec = spec_of(LLAMA | {"quantization_config": quantization}, "m")
    assert spec.weight_precision == precision


def test_errors_name_the_file_and_what_is_missing(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere"):
        spec_in(tmp_path / "nowhere" / "config.json")
    broken = tmp_path / "config.json"
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"config\.json cannot be read as JSON"):
        spec_in(broken)
    broken.write_text(json.dumps({"model_type": "llama", "hidden_size": 8}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="num_hidden_layers"):
        spec_in(broken)
    with pytest.raises(ConfigurationError, match="quant_method"):
        spec_of(LLAMA | {"quantization_config": {"quant_method": "odd"}}, "m")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"experts": 8}, "model.experts"),
        ({"weight_precision": "int5"}, "model.weight_precision"),
        ({"layers": 0}, "model.layers"),
        ({"sliding_window_fraction": 2.0}, "model.sliding_window_fraction"),
    ],
)
def test_impossible_shapes_name_the_key(change, key):
    shape = {"hidden": 64, "layers": 2, "heads": 4, "vocab": 100, "mlp_intermediate": 256}
    with pytest.raises(ConfigurationError, match=key):
        ModelSpec(**{**shape, **change})
