"""Weights of every architecture against the models of transformers, on the meta device."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
from support.model_specs import spec_of

from envs.errors import ConfigurationError
from envs.simulator.architectures.table import BY_TYPE, defaults_by_type

pytestmark = pytest.mark.long

TOLERANCE = 0.002
"""Norms, biases and small tables are not counted: 0.1 % of the smallest models."""

_MAMBA = {"mamba_d_state": 128, "mamba_n_heads": 128, "mamba_d_head": 64}
EXAMPLES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [9, 18, 27]},
    "deepseek_v2": {
        "num_hidden_layers": 27, "hidden_size": 2048, "intermediate_size": 10944,
        "moe_intermediate_size": 1408, "num_attention_heads": 16, "num_key_value_heads": 16,
        "num_experts_per_tok": 6, "first_k_dense_replace": 1, "q_lora_rank": None,
    },
    "dots1": {
        "hidden_size": 4096, "head_dim": 128, "n_routed_experts": 128, "n_shared_experts": 2,
        "num_experts_per_tok": 6, "first_k_dense_replace": 1,
    },
    "granitemoehybrid": {
        "num_hidden_layers": 10, "layer_types": ["linear_attention"] * 9 + ["full_attention"],
        "intermediate_size": 768, "shared_intermediate_size": 1536, "num_local_experts": 72,
        "num_experts_per_tok": 10, **_MAMBA,
    },
    "hunyuan_v1_dense": {"head_dim": 128, "num_key_value_heads": 8},
    "hunyuan_v1_moe": {
        "head_dim": 128, "num_key_value_heads": 8, "num_experts": 64, "moe_topk": [8] * 32,
        "num_shared_expert": [1] * 32, "moe_intermediate_size": [3072] * 32,
        "intermediate_size": 3072,
    },
    "lfm2": {"num_hidden_layers": 16, "hidden_size": 2048, "full_attn_idxs": [2, 5, 8, 10, 12]},
    "lfm2_moe": {"num_hidden_layers": 8, "layer_types": ["conv", "full_attention"] * 4},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "zamba2": {"use_shared_attention_adapter": True, "num_mem_blocks": 2},
}  # fmt: skip
"""Where a class's own defaults make no model, or show less than there is."""

NOT_BUILT = {
    "dbrx": "its class builds no model from its own defaults",
    "longcat_flash": "its class has weights for experts that do nothing; published: 560 billion",
    "mllama_text_model": "not one of the classes that can be built alone",
    "qwen2_5_omni_text": "not one of the classes that can be built alone",
    "qwen3_omni_moe_text": "not one of the classes that can be built alone",
}


def _known_to_transformers() -> list[str]:
    try:
        mapping = importlib.import_module("transformers").CONFIG_MAPPING
    except ImportError:
        return []
    return sorted(set(BY_TYPE) & set(mapping))


KINDS = _known_to_transformers()
transformers: Any = pytest.importorskip("transformers", reason="needs pals-gym[models]")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NOT_BUILT])
def test_the_weights_are_those_of_the_model(kind: str) -> None:
    import torch

    config = transformers.CONFIG_MAPPING[kind](**EXAMPLES.get(kind, {}))
    with torch.device("meta"):
        try:
            model = transformers.AutoModelForCausalLM.from_config(config)
        except ValueError:  # the language part of a larger model
            model = transformers.AutoModel.from_config(config)
    model.tie_weights()
    theirs = sum({id(tensor): tensor.numel() for tensor in model.parameters()}.values())
    values = json.loads(json.dumps(config.to_dict(), default=str).replace("Infinity", "1e9"))
    spec = spec_of(values, kind)
    ours = spec.total_params
    if not hasattr(model, "lm_head") and model.get_output_embeddings() is None:
        ours -= 0 if spec.tied_embeddings else spec.head_params
    assert ours == pytest.approx(theirs, rel=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_defaults_are_those_of_the_configuration_class(kind: str) -> None:
    theirs = transformers.CONFIG_MAPPING[kind]().to_dict()
    for key, value in defaults_by_type().get(kind, {}).items():
        if theirs.get(key) is not None:
            assert value == theirs[key], key


def test_most_architectures_are_compared() -> None:
    assert len(KINDS) - len(NOT_BUILT) > 95


def test_models_without_a_cache_are_refused() -> None:
    for kind in ("mamba", "mamba2", "t5", "bert", "whisper"):
        values = json.loads(json.dumps(transformers.CONFIG_MAPPING[kind]().to_dict(), default=str))
        with pytest.raises(ConfigurationError, match="not known"):
            spec_of(values, kind)
