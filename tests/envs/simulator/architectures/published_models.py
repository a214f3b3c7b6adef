"""Configurations of published models: what they say, and what follows from it by hand."""

from __future__ import annotations

from typing import Any, NamedTuple


class Published(NamedTuple):
    """A configuration, and what its authors publish.

    Attributes:
        config: What its ``config.json`` says about shape.
        billions: Weights in billions.
        cache: Bytes of KV cache per token in 16 bits.
        weights: Precision of dense weights.
        experts: Precision of experts.
    """

    config: dict[str, Any]
    billions: float
    cache: int
    weights: str = "bf16"
    experts: str = ""


def _decoder(kind: str, layers: int, hidden: int, heads: int, kv: int, width: int, vocab: int,
             **more: Any) -> dict[str, Any]:  # fmt: skip
    return {
        "model_type": kind, "num_hidden_layers": layers, "hidden_size": hidden,
        "num_attention_heads": heads, "num_key_value_heads": kv, "intermediate_size": width,
        "vocab_size": vocab, **more,
    }  # fmt: skip


_MLA = {
    "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
}  # fmt: skip
_V3 = _decoder(
    "deepseek_v3", 61, 7168, 128, 128, 18432, 129280, moe_intermediate_size=2048,
    n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3,
    moe_layer_freq=1, q_lora_rank=1536, num_nextn_predict_layers=1, tie_word_embeddings=False,
    **_MLA,
)  # fmt: skip
_HYBRID = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"
_GEMMA3 = {
    "model_type": "gemma3", "torch_dtype": "bfloat16",
    "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
        "num_hidden_layers": 34, "sliding_window": 1024,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    },
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27, "intermediate_size": 4304},
}  # fmt: skip
LLAMA = _decoder("llama", 32, 4096, 32, 8, 14336, 128256, tie_word_embeddings=False)
_EXPERTS_ONLY = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 4, "type": "int", "group_size": 32, "strategy": "group"},
        }
    },
    "ignore": [
        "lm_head", "re:.*self_attn.*", "re:.*shared_experts.*",
        r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
    ],
}  # fmt: skip

PUBLISHED: dict[str, Published] = {
    "multi-query attention, plain MLP": Published(
        {
            "model_type": "falcon", "alibi": False, "hidden_size": 4544, "multi_query": True,
            "new_decoder_architecture": False, "num_attention_heads": 71, "num_hidden_layers": 32,
            "num_kv_heads": 71, "parallel_attn": True, "vocab_size": 65024,
        }, 6.92, 8192,
    ),
    "grouped heads of the newer Falcon": Published(
        {
            "model_type": "falcon", "hidden_size": 8192, "multi_query": True,
            "new_decoder_architecture": True, "num_attention_heads": 128,
            "num_hidden_layers": 60, "num_kv_heads": 8, "vocab_size": 65024,
        }, 41.3, 122880,
    ),
    "multi-query attention of BigCode": Published(
        {
            "model_type": "gpt_bigcode", "n_embd": 6144, "n_layer": 40, "n_head": 48,
            "n_inner": 24576, "n_positions": 8192, "multi_query": True, "vocab_size": 49152,
        }, 15.5, 20480,
    ),
    "tied embeddings by default": Published(
        _decoder("cohere", 40, 8192, 64, 64, 22528, 256000), 34.98, 1310720
    ),
    "an indexer's cache": Published(
        {**_V3, "model_type": "deepseek_v32", "index_head_dim": 128, "index_n_heads": 64,
         "index_topk": 2048, "quantization_config": {
             "quant_method": "fp8", "weight_block_size": [128, 128]}},
        671.9, 78324, "fp8_block", "fp8_block",
    ),
    "quantised experts in a 16-bit model": Published(
        {**_V3, "model_type": "kimi_k2", "num_attention_heads": 64, "n_routed_experts": 384,
         "first_k_dense_replace": 1, "vocab_size": 163840, "quantization_config": _EXPERTS_ONLY},
        1026.4, 70272, "bf16", "int4_g32",
    ),
    "defaults of a nested configuration": Published(_GEMMA3, 3.88, 139264),
    "interleaved experts": Published(
        {
            "model_type": "llama4", "text_config": _decoder(
                "llama4_text", 48, 5120, 40, 8, 8192, 202048, intermediate_size_mlp=16384,
                interleave_moe_layer_step=2, num_local_experts=128, num_experts_per_tok=1,
                head_dim=128, attention_chunk_size=8192,
            ),
        }, 400.7, 196608,
    ),
    "a state-space hybrid with experts": Published(
        _decoder(
            "granitemoehybrid", 40, 4096, 32, 8, 768, 100352, shared_intermediate_size=1536,
            num_local_experts=72, num_experts_per_tok=10, mamba_d_conv=4, mamba_d_state=128,
            mamba_d_head=64, mamba_n_heads=128, mamba_n_groups=1, mamba_expand=2,
            tie_word_embeddings=True,
            layer_types=["attention" if i in (5, 15, 25, 35) else "mamba" for i in range(40)],
        ), 32.2, 16384,
    ),
    "layers that are one thing each": Published(
        _decoder(
            "nemotron_h", 52, 4096, 32, 8, 21504, 131072, hybrid_override_pattern=_HYBRID,
            head_dim=128, ssm_state_size=128, mamba_num_heads=128, mamba_head_dim=64, n_groups=8,
            conv_kernel=4, expand=2, mlp_hidden_act="relu2", tie_word_embeddings=False,
        ), 8.10, 16384,
    ),
    "linear attention by an interval": Published(
        _decoder(
            "qwen3_next", 48, 2048, 16, 2, 5120, 151936, head_dim=256, full_attention_interval=4,
            linear_conv_kernel_dim=4, linear_key_head_dim=128, linear_num_key_heads=16,
            linear_num_value_heads=32, linear_value_head_dim=128, moe_intermediate_size=512,
            shared_expert_intermediate_size=512, num_experts=512, num_experts_per_tok=10,
            decoder_sparse_step=1, mlp_only_layers=[], tie_word_embeddings=False,
        ), 79.7, 24576,
    ),
    "values in lists, one for each layer": Published(
        _decoder(
            "hunyuan_v1_moe", 32, 4096, 32, 8, 3072, 128167, moe_intermediate_size=[3072] * 32,
            moe_topk=[8] * 32, num_shared_expert=[1] * 32, num_experts=64, head_dim=128,
            tie_word_embeddings=True, use_mixed_mlp_moe=True, use_cla=False, cla_share_factor=2,
        ), 80.4, 131072,
    ),
    "a dense layer beside experts": Published(
        _decoder(
            "arctic", 35, 7168, 56, 8, 4864, 32000, num_local_experts=128, num_experts_per_tok=2,
            moe_layer_frequency=1, use_residual=True, parallel_attn_mlp_res=True,
            tie_word_embeddings=False,
        ), 480.0, 143360,
    ),
    "shapes in mappings of their own": Published(
        {
            "model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40,
            "max_seq_len": 32768, "vocab_size": 100352, "tie_word_embeddings": False,
            "attn_config": {"kv_n_heads": 8, "clip_qkv": 8},
            "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4,
                           "moe_loss_weight": 0.05, "moe_jitter_eps": 0.01},
        }, 131.6, 163840,
    ),
    "blocks that a search chose": Published(
        _decoder(
            "nemotron-nas", 4, 8192, 64, 8, 28672, 128256, tie_word_embeddings=False,
            block_configs=[
                {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 5.25}},
                {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.3125}},
                {"attention": {"n_heads_in_group": 16}, "ffn": {"no_op": True}},
                {"attention": {"replace_with_linear": True}, "ffn": {"ffn_mult": 2.625}},
            ],
        ),
        (2 * 8192 * 128256                         # embeddings
         + 8192 * 128 * 2 * (64 + 8) + 8192 * 128 * 2 * (64 + 4)  # attention
         + 8192 * 8192                             # a linear layer in its place
         + 3 * 8192 * (28672 + 7168 + 14336)) / 1e9,
        2 * 2 * 128 * (8 + 4),
    ),
    "other heads in windowed layers, values narrower than keys": Published(
        _decoder(
            "mimo_v2_flash", 48, 4096, 64, 4, 16384, 152576, head_dim=192, v_head_dim=128,
            swa_head_dim=192, swa_v_head_dim=128, swa_num_attention_heads=64,
            swa_num_key_value_heads=8, hybrid_layer_pattern=([0] + [1] * 5) * 8,
            sliding_window=128, sliding_window_size=128, attention_chunk_size=128,
            moe_intermediate_size=2048, n_routed_experts=256, num_experts_per_tok=8,
            moe_layer_freq=[0] + [1] * 47, tie_word_embeddings=False,
        ), 308.8, 2 * (192 + 128) * (8 * 4 + 40 * 8),
    ),
    "a width of 0 for the usual one": Published(
        _decoder(
            "bailing_moe", 28, 2048, 16, 4, 5632, 126464, head_dim=0, moe_intermediate_size=1408,
            num_experts=64, num_experts_per_tok=6, num_shared_experts=2, norm_head=True,
            first_k_dense_replace=0, tie_word_embeddings=False,
        ), 16.8, 57344,
    ),
    "attention and a dense part twice in a layer, experts once": Published(
        {
            "model_type": "longcat_flash", "num_layers": 28, "hidden_size": 6144,
            "num_attention_heads": 64, "ffn_hidden_size": 12288, "vocab_size": 131072,
            "expert_ffn_hidden_size": 2048, "n_routed_experts": 512, "zero_expert_num": 256,
            "zero_expert_type": "identity", "moe_topk": 12, "q_lora_rank": 1536, **_MLA,
        }, 560.6, 56 * 576 * 2,
    ),
    "8-bit GPTQ": Published(
        {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 8, "group_size": 128}},
        8.03, 131072, "int8",
    ),
    "4 bits by bitsandbytes": Published(
        {**LLAMA, "quantization_config": {
            "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}},
        8.03, 131072, "int4_g32",
    ),
    "FP8 by compressed-tensors": Published(
        {**LLAMA, "quantization_config": {
            "quant_method": "compressed-tensors", "ignore": ["lm_head"],
            "config_groups": {"group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}}},
        8.03, 131072, "fp8",
    ),
}  # fmt: skip
"""By the kind of thing that a reader gets wrong."""
