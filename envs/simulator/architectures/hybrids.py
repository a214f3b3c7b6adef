"""Hybrid models: some layers have a state or a convolution in place of attention, or beside it."""

from __future__ import annotations

from envs.simulator.architectures.family import Family
from envs.simulator.architectures.feeds import experts
from envs.simulator.architectures.hybrid_layers import (
    both,
    either,
    granite_feed,
    griffin_layers,
    jamba_feed,
    kimi_layers,
    lfm_width,
    one_of_each,
    spelt_out,
)
from envs.simulator.architectures.mixers import gated_attention, latent
from envs.simulator.architectures.recurrent import (
    gated_delta,
    gated_recurrence,
    kimi_delta,
    lightning,
    mamba1,
    mamba2,
    short_convolution,
)
from envs.simulator.architectures.sparse import LOCAL, STEP

NUMBERED = {"attn_layer_indices": "attn_layer_indices", "full_attn_idxs": "attn_layer_indices"}

HYBRID = (
    Family(
        understands=("linear_", "mamba_"),
        types=("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_5", "qwen3_5_moe"),
        classes=("Qwen3NextForCausalLM",),
        mixer=either(gated_delta, gated_attention),
        feed=experts,
        renames={**STEP, **LOCAL},
        defaults={"full_attention_interval": 4},
    ),
    Family(
        understands=("linear_",),
        types=("olmo_hybrid",),
        classes=("OlmoHybridForCausalLM",),
        mixer=either(gated_delta),
        defaults={"full_attention_interval": 4},
    ),
    Family(
        understands=("linear_",),
        types=("kimi_linear",),
        classes=("KimiLinearForCausalLM",),
        mixer=either(kimi_delta, latent),
        feed=experts,
        prepare=kimi_layers,
        renames={"num_experts_per_token": "num_experts_per_tok"},
        defaults={"first_k_dense_replace": 1, "full_attention_interval": 4},
    ),
    Family(
        understands=("mamba_", "shared_intermediate"),
        types=("granitemoehybrid",),
        classes=("GraniteMoeHybridForCausalLM",),
        mixer=either(mamba2),
        feed=granite_feed,
        renames={
            **LOCAL,
            "layers_block_type": "layer_types",
            "shared_intermediate_size": "shared_expert_intermediate_size",
        },
    ),
    Family(
        understands=("mamba_",),
        types=("bamba",),
        classes=("BambaForCausalLM",),
        mixer=either(mamba2),
        defaults={"attn_layer_indices": []},
    ),
    Family(
        understands=("mamba_", "expert_layer_", "attn_layer_", "num_experts"),
        types=("jamba",),
        classes=("JambaForCausalLM",),
        mixer=either(mamba1),
        feed=jamba_feed,
    ),
    Family(
        understands=("mamba_",),
        types=("falcon_h1",),
        classes=("FalconH1ForCausalLM",),
        mixer=both,
    ),
    Family(
        understands=(
            "mamba_", "ssm_", "moe_", "n_routed_experts", "n_shared_experts", "num_experts",
        ),
        types=("nemotron_h",),
        classes=("NemotronHForCausalLM",),
        mixer=one_of_each,
        prepare=spelt_out,
        renames={
            "attention_head_dim": "head_dim",
            "ssm_state_size": "mamba_d_state",
            "mamba_num_heads": "mamba_n_heads",
            "mamba_head_dim": "mamba_d_head",
            "n_groups": "mamba_n_groups",
            "conv_kernel": "mamba_d_conv",
            "expand": "mamba_expand",
            "n_routed_experts": "num_experts",
            "n_shared_experts": "num_shared_experts",
        },
    ),
    Family(
        types=("minimax", "minimax_text_01", "minimax_m1"),
        classes=(
            "MiniMaxForCausalLM", "MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM",
        ),
        mixer=either(lightning),
        feed=experts,
        renames={**LOCAL, "shared_intermediate_size": "shared_expert_intermediate_size"},
        defaults={"full_attention_interval": 2},
    ),
    Family(
        types=("lfm2",),
        classes=("Lfm2ForCausalLM",),
        mixer=either(short_convolution),
        prepare=lfm_width,
        renames={**NUMBERED, "tie_embedding": "tie_word_embeddings"},
        tied=True,
    ),
    Family(
        types=("lfm2_moe",),
        classes=("Lfm2MoeForCausalLM",),
        mixer=either(short_convolution),
        feed=experts,
        renames={
            **NUMBERED,
            "num_dense_layers": "first_k_dense_replace",
            "tie_embedding": "tie_word_embeddings",
        },
        tied=True,
    ),
    Family(
        types=("recurrent_gemma",),
        classes=("RecurrentGemmaForCausalLM",),
        mixer=either(gated_recurrence),
        prepare=griffin_layers,
        renames={"attention_window_size": "sliding_window"},
        tied=True,
    ),
)  # fmt: skip
"""Hybrid models."""
