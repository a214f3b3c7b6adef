"""Mixtures of experts with attention in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from envs.simulator.architectures.family import Family
from envs.simulator.architectures.feeds import experts, routed
from envs.simulator.architectures.keys import Keys
from envs.simulator.architectures.layers import Experts, Mlp
from envs.simulator.architectures.mixers import (
    attention,
    gated_attention,
    narrow_values,
    paired_cache,
)

LOCAL = {"num_local_experts": "num_experts"}
ROUTED = {
    "n_routed_experts": "num_experts",
    "num_local_experts": "num_experts",
    "n_shared_experts": "num_shared_experts",
}
STEP = {"decoder_sparse_step": "interleave_moe_layer_step"}


def _with_residual(keys: Keys, layer: int) -> Mlp | Experts:
    """Experts beside a dense layer as wide as the model (Arctic)."""
    every = keys.whole("moe_layer_frequency", 1)
    if (layer + 1) % every:
        return Mlp(width=keys.whole("intermediate_size"))
    shared = keys.whole("hidden_size") if keys.flag("use_residual", True) else 0
    return replace(routed(keys, layer), shared=shared)


def _one_width(keys: Keys, layer: int) -> Mlp | Experts:
    """Experts as wide as the shared one (Hunyuan): engines take the one width or the other."""
    dense = keys.whole("intermediate_size")
    width = keys.each("moe_intermediate_size", layer, dense)
    if width != dense:
        raise keys.problem(
            "moe_intermediate_size", f"is {width} and intermediate_size {dense}; they must be equal"
        )
    return experts(keys, layer)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """DBRX keeps the shapes of attention and experts in mappings of their own."""
    found = dict(values)
    for key in ("attn_config", "ffn_config"):
        part = values.get(key)
        if isinstance(part, Mapping):
            found |= part
    return found


def _listed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Step-3 lists its layers with experts in a text."""
    text = values.get("moe_layers_enum")
    if not isinstance(text, str):
        return dict(values)
    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) for word in words if word.isdecimal() and len(word) < 6]
    return {**values, "moe_layers": numbers}


SPARSE = (
    Family(
        types=("mixtral", "phimoe", "minimax_m2", "granitemoe", "mellum"),
        classes=(
            "MixtralForCausalLM", "PhiMoEForCausalLM", "MiniMaxM2ForCausalLM",
            "GraniteMoeForCausalLM", "MellumForCausalLM",
        ),
        feed=experts,
        renames=LOCAL,
    ),
    Family(
        types=("granitemoeshared",),
        classes=("GraniteMoeSharedForCausalLM",),
        feed=experts,
        renames={**LOCAL, "shared_intermediate_size": "shared_expert_intermediate_size"},
    ),
    Family(
        types=("qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text"),
        classes=("Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"),
        feed=experts,
        renames={**STEP, **LOCAL},
        defaults={"use_sliding_window": False},
    ),
    Family(
        types=("olmoe", "flex_olmo"),
        classes=("OlmoeForCausalLM", "FlexOlmoForCausalLM"),
        feed=experts,
    ),
    Family(
        types=("gpt_oss",),
        classes=("GptOssForCausalLM",),
        feed=experts,
        renames={**LOCAL, "experts_per_token": "num_experts_per_tok"},
        defaults={"sliding_window_pattern": 2},
    ),
    Family(
        types=("llama4_text",),
        classes=("Llama4ForCausalLM",),
        feed=experts,
        renames={**LOCAL, "intermediate_size_mlp": "dense_intermediate_size"},
        defaults={"num_shared_experts": 1, "attention_chunk_size": 8192, "chunked": True},
    ),
    Family(
        types=("deepseek", "glm4_moe", "glm4v_moe_text", "dots1", "sarvam_moe", "solar_open"),
        classes=(
            "DeepseekForCausalLM", "Glm4MoeForCausalLM", "Dots1ForCausalLM",
            "SarvamMoEForCausalLM", "SolarOpenForCausalLM",
        ),
        feed=experts,
        renames=ROUTED,
    ),
    Family(
        types=("bailing_moe", "bailing_moe_v2"),
        classes=("BailingMoeForCausalLM", "BailingMoeV2ForCausalLM"),
        feed=experts,
        renames={"moe_shared_expert_intermediate_size": "shared_width"},
    ),
    Family(
        types=("ernie4_5_moe",),
        classes=("Ernie4_5_MoeForCausalLM", "Ernie4_5_MoEForCausalLM"),
        feed=experts,
        renames={
            "moe_num_experts": "num_experts",
            "moe_k": "num_experts_per_tok",
            "moe_num_shared_experts": "num_shared_experts",
        },
        tied=True,
    ),
    Family(
        types=("hunyuan_v1_moe", "hunyuan"),
        classes=("HunYuanMoEV1ForCausalLM", "HunYuanForCausalLM", "HunYuanMoEForCausalLM"),
        mixer=paired_cache,
        feed=_one_width,
        renames={
            "moe_topk": "num_experts_per_tok",
            "num_shared_expert": "num_shared_experts",
            "attention_head_dim": "head_dim",
            "moe_layer_num_skipped": "first_k_dense_replace",
        },
        tied=True,
    ),
    Family(
        types=("aria_text",),
        classes=("AriaTextForCausalLM",),
        feed=experts,
        renames={
            "moe_num_experts": "num_experts",
            "moe_topk": "num_experts_per_tok",
            "moe_num_shared_experts": "num_shared_experts",
        },
    ),
    Family(
        types=("dbrx",),
        classes=("DbrxForCausalLM",),
        feed=experts,
        prepare=_flat,
        renames={
            "d_model": "hidden_size",
            "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads",
            "kv_n_heads": "num_key_value_heads",
            "ffn_hidden_size": "moe_intermediate_size",
            "moe_num_experts": "num_experts",
            "moe_top_k": "num_experts_per_tok",
        },
    ),
    Family(
        types=("arctic",),
        classes=("ArcticForCausalLM",),
        feed=_with_residual,
        renames=LOCAL,
        defaults={"moe_layer_frequency": 2},
    ),
    Family(
        types=("grok-1",),
        classes=("Grok1ModelForCausalLM", "Grok1ForCausalLM"),
        feed=experts,
        renames=LOCAL,
        tied=True,
    ),
    Family(
        types=("mimo_v2_flash",),
        classes=("MiMoV2FlashForCausalLM",),
        mixer=narrow_values,
        feed=experts,
        renames={
            **ROUTED,
            "sliding_window_size": "sliding_window",
            "hybrid_layer_pattern": "sliding_window_pattern",
        },
    ),
    Family(
        types=("afmoe",),
        classes=("AfmoeForCausalLM",),
        mixer=gated_attention,
        feed=experts,
        renames={
            "num_dense_layers": "first_k_dense_replace",
            "global_attn_every_n_layers": "sliding_window_pattern",
        },
    ),
    Family(
        types=("exaone_moe", "hy_v3"),
        classes=("ExaoneMoEForCausalLM", "HYV3ForCausalLM"),
        mixer=attention,
        feed=experts,
        defaults={"sliding_window_pattern": 4},
    ),
    Family(
        types=("step3_text",),
        classes=("Step3TextForCausalLM",),
        feed=experts,
        prepare=_listed,
        renames={
            "moe_num_experts": "num_experts",
            "moe_top_k": "num_experts_per_tok",
            "share_expert_dim": "shared_expert_intermediate_size",
            "num_attention_groups": "num_key_value_heads",
        },
    ),
)  # fmt: skip
"""Mixtures of experts."""
