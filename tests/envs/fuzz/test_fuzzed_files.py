"""Damaged traces and model files are read or refused, and nothing else ever happens.

Hypothesis chooses seeds; a seed decides which file is damaged and how, so that a failure can be
run again. ``make test`` tries some hundred files, ``make test-long`` more than five thousand.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from file_damage import changed, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from support.model_specs import spec_in

from envs.errors import PalsError
from envs.workloads.azure_conv import AzureConv
from envs.workloads.mooncake import Mooncake
from experiments.records.description import describe_model

LONGEST_S = 60.0
"""A file of a few kilobytes that takes longer counts as a hang."""
SEEDS = st.integers(0, 2**64 - 1)

_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
_ROWS = [(0.0, 1627, 393), (0.75, 215, 137), (2.5, 2040, 212), (2.5, 9, 1), (7.25, 12, 40)]
_RECORDS = [
    {"timestamp": 1000 * t, "input_length": p, "output_length": o, "hash_ids": [0, 1]}
    for t, p, o in _ROWS
]
TRACES = [
    (_HEADER + "".join(f"2023-11-16 18:17:{t + 3:010.7f},{p},{o}\n" for t, p, o in _ROWS)),
    (_HEADER + "".join(f"{t},{p}.0,{o}\n" for t, p, o in _ROWS)),
    "arrived_at;num_prefill_tokens;num_decode_tokens\n"
    + "".join(f"{t};{p};{o}\n" for t, p, o in _ROWS),
    "".join(json.dumps(record) + "\n" for record in _RECORDS),
    json.dumps(_RECORDS, indent=1),
    json.dumps({"requests": _RECORDS}),
]
_EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
_PLAIN = {
    "num_hidden_layers": 6, "hidden_size": 256, "num_attention_heads": 8,
    "num_key_value_heads": 2, "intermediate_size": 512, "vocab_size": 1000,
    "max_position_embeddings": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
}  # fmt: skip
_QUANTISED = {
    "quantization_config": {
        "quant_method": "compressed-tensors", "ignore": ["lm_head", "re:.*self_attn.*"],
        "config_groups": {
            "group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int"}}
        },
    }
}  # fmt: skip
MODELS = [
    {"model_type": "llama", **_PLAIN, **_QUANTISED},
    {"model_type": "qwen3_moe", **_PLAIN, **_EXPERTS, "decoder_sparse_step": 2,
     "mlp_only_layers": [0], "quantization_config": {"quant_method": "gptq", "bits": 4}},
    {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **_PLAIN,
     "sliding_window": 64}, "vision_config": {"hidden_size": 64, "num_hidden_layers": 2}},
    {"model_type": "deepseek_v32", **_PLAIN, **_EXPERTS, "kv_lora_rank": 64, "q_lora_rank": 64,
     "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "index_head_dim": 16,
     "index_n_heads": 4, "first_k_dense_replace": 1, "n_shared_experts": 1},
    {"model_type": "granitemoehybrid", **_PLAIN, **_EXPERTS, "mamba_n_heads": 8,
     "mamba_d_state": 16, "shared_intermediate_size": 64,
     "layer_types": ["mamba", "attention"] * 3},
    {"model_type": "nemotron_h", **_PLAIN, "hybrid_override_pattern": "M-*-M-",
     "mamba_num_heads": 8, "mamba_head_dim": 32, "ssm_state_size": 16, "n_groups": 1},
    {"model_type": "nemotron-nas", **_PLAIN, "block_configs": [
        {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 1.5}}] * 6},
    {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128,
     "vocab_size": 100},
    {"model_type": "kimi_linear", **_PLAIN, "kv_lora_rank": 64, "qk_rope_head_dim": 16,
     "qk_nope_head_dim": 16, "v_head_dim": 16, "num_experts": 8, "num_experts_per_token": 2,
     "moe_intermediate_size": 64, "linear_attn_config": {"full_attn_layers": [4], "head_dim": 32,
     "num_heads": 8}},
    {"model_type": "lfm2", **_PLAIN, "block_ff_dim": 512, "block_multiple_of": 64,
     "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": True,
     "full_attn_idxs": [1, 3]},
    {"model_type": "recurrent_gemma", **_PLAIN, "lru_width": 256, "block_types":
     ["recurrent", "attention"], "attention_window_size": 64},
    {"model_type": "mpt", "d_model": 64, "n_heads": 4, "n_layers": 2, "expansion_ratio": 4,
     "vocab_size": 100, "max_seq_len": 128, "attn_config": {"kv_n_heads": 2, "alibi": True}},
    {"model_type": "openelm", "model_dim": 64, "num_transformer_layers": 2, "head_dim": 16,
     "num_query_heads": [4, 8], "num_kv_heads": [2, 4], "ffn_multipliers": [0.5, 4.0],
     "vocab_size": 100},
    {"model_type": "ernie4_5_moe", **_PLAIN, "moe_num_experts": 8, "moe_k": 2,
     "moe_layer_start_index": [1, 1], "moe_layer_end_index": 5, "moe_intermediate_size": 64},
    {"model_type": "step3_text", **_PLAIN, "moe_layers_enum": "1,2,3", "moe_num_experts": 8,
     "moe_top_k": 2, "moe_intermediate_size": 64, "share_expert_dim": 64},
    {"model_type": "falcon", **_PLAIN, "multi_query": True, "new_decoder_architecture": True,
     "num_kv_heads": 2},
    {"model_type": "longcat_flash", **_PLAIN, "num_layers": 3, "n_routed_experts": 8,
     "moe_topk": 4, "zero_expert_num": 8, "expert_ffn_hidden_size": 64, "kv_lora_rank": 32,
     "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "ffn_hidden_size": 64},
    {"model_type": "zamba2", **_PLAIN, "layers_block_type": ["mamba", "hybrid"] * 3,
     "n_mamba_heads": 8, "mamba_d_state": 16, "attention_head_dim": 64},
]  # fmt: skip


def read_trace(seed: int, folder: Path) -> str:
    """Damages a trace, reads it, and returns what came of it."""
    rng = random.Random(seed)
    path = folder / "trace"
    path.write_bytes(damaged(rng.choice(TRACES).encode(), rng))
    cls = rng.choice([AzureConv, Mooncake])
    unit = rng.choice([None, None, "s", "ms", "ns"])
    begun = time.monotonic()
    try:
        recording = cls.read(path, unit, skip_failed=rng.random() < 0.5)
    except PalsError as error:
        outcome = "refused" if str(path) in str(error) else f"refused without a place: {error}"
    else:
        times = recording.time_s
        right = (
            np.isfinite(times).all()
            and (np.diff(times) >= 0.0).all()
            and recording.prompt_tokens.min() >= 1
            and recording.output_tokens.min() >= 1
        )
        outcome = "read" if right else "nonsense"
    return outcome if time.monotonic() - begun < LONGEST_S else "hang"


def read_model(seed: int, folder: Path) -> str:
    """Changes a model's configuration, reads it, and returns what came of it."""
    rng = random.Random(seed)
    text = json.dumps(changed(rng.choice(MODELS), rng)).encode()
    path = folder / "config.json"
    path.write_bytes(damaged(text, rng) if rng.random() < 0.2 else text)
    begun = time.monotonic()
    try:
        spec = spec_in(path)
        described = json.dumps(describe_model(spec), allow_nan=False)
    except PalsError:
        outcome = "refused"
    else:
        sizes = (spec.total_params, spec.active_params, spec.weight_bytes, spec.kv_bytes_per_token)
        right = described and all(math.isfinite(size) and size > 0 for size in sizes)
        right = right and spec.active_params <= spec.total_params
        outcome = "read" if right else "nonsense"
    return outcome if time.monotonic() - begun < LONGEST_S else "hang"


@pytest.mark.parametrize("read", [read_trace, read_model])
@pytest.mark.parametrize("files", [150, pytest.param(3000, marks=pytest.mark.long)])
def test_damaged_files_are_read_or_refused(
    read: object, files: int, tmp_path: Path, record_property: pytest.FixtureRequest
) -> None:
    outcomes: Counter[str] = Counter()

    @settings(max_examples=files, database=None)
    @given(SEEDS)
    def one(seed: int) -> None:
        outcome = read(seed, tmp_path)  # type: ignore[operator]
        outcomes[outcome] += 1
        assert outcome in ("read", "refused"), f"seed {seed}: {outcome}"

    one()
    assert sum(outcomes.values()) >= files
    assert min(outcomes["read"], outcomes["refused"]) > files // 20
    for outcome, count in outcomes.items():
        record_property(outcome, count)  # type: ignore[operator]
