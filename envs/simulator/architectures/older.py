"""Decoders from before Llama: plain feed-forward layers, key names and positions of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.simulator.architectures.family import Family
from envs.simulator.architectures.feeds import plain
from envs.simulator.architectures.keys import Keys, whole

_GPT = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
}
_BLOOM = {"n_embed": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}


def _positions(keys: Keys) -> int:
    return keys.whole("n_positions", 1024) * keys.whole("hidden_size")


def _opt_positions(keys: Keys) -> int:
    """OPT has two positions more than tokens, and embeddings of another width in some sizes."""
    hidden, width = keys.whole("hidden_size"), keys.whole("word_embed_proj_dim", 0, least=0)
    table = (keys.whole("max_position_embeddings") + 2) * hidden
    if width and width != hidden:
        table += keys.whole("vocab_size") * (width - hidden) + 2 * width * hidden
    return table


def _mpt(values: Mapping[str, Any]) -> dict[str, Any]:
    """MPT keeps what is special about its attention in a mapping, and its width as a ratio."""
    found = dict(values)
    part = values.get("attn_config")
    if isinstance(part, Mapping):
        found["kv_n_heads"] = part.get("kv_n_heads")
        found["alibi"] = part.get("alibi", True)
        if part.get("attn_type") == "multiquery_attention":
            found["kv_n_heads"] = 1
    hidden, ratio = values.get("d_model"), values.get("expansion_ratio", 4)
    if whole(hidden) and isinstance(ratio, int | float) and 0 < ratio < 1000:
        found["intermediate_size"] = int(hidden * ratio)
    return found


def _mpt_positions(keys: Keys) -> int:
    learned = keys.flag("learned_pos_emb", True) and not keys.flag("alibi", True)
    return keys.whole("max_seq_len", 2048) * keys.whole("hidden_size") if learned else 0


def _falcon(values: Mapping[str, Any]) -> dict[str, Any]:
    """Falcon has one key/value head, or as many as ``num_kv_heads`` says in its newer form."""
    found = dict(values)
    heads = found.get("num_attention_heads", found.get("n_head"))
    if found.get("new_decoder_architecture"):
        found["num_key_value_heads"] = found.get("num_kv_heads", found.get("n_head_kv", heads))
        found["multi_query"] = False
    elif found.get("multi_query", True):
        found["num_key_value_heads"] = 1
    else:
        found["num_key_value_heads"] = heads
    return found


def _chatglm(values: Mapping[str, Any]) -> dict[str, Any]:
    """ChatGLM names a number of groups, which counts only where a flag is set."""
    groups = values.get("multi_query_group_num") if values.get("multi_query_attention") else None
    return {**values, "num_key_value_heads": groups}


OLDER = (
    Family(
        types=("gpt2",),
        classes=("GPT2LMHeadModel",),
        feed=plain,
        renames=_GPT,
        tied=True,
        table=_positions,
    ),
    Family(
        types=("gpt_bigcode",),
        classes=("GPTBigCodeForCausalLM",),
        feed=plain,
        renames=_GPT,
        defaults={"multi_query": True},
        tied=True,
        table=_positions,
    ),
    Family(
        types=("gptj", "codegen"),
        classes=("GPTJForCausalLM", "CodeGenForCausalLM"),
        feed=plain,
        renames=_GPT,
    ),
    Family(
        types=("gpt_neox",),
        classes=("GPTNeoXForCausalLM",),
        feed=plain,
    ),
    Family(
        types=("bloom",),
        classes=("BloomForCausalLM", "BloomModel"),
        feed=plain,
        renames=_BLOOM,
        tied=True,
    ),
    Family(
        types=("opt",),
        classes=("OPTForCausalLM",),
        feed=plain,
        renames={"ffn_dim": "intermediate_size"},
        tied=True,
        table=_opt_positions,
    ),
    Family(
        types=("mpt",),
        classes=("MPTForCausalLM", "MptForCausalLM"),
        feed=plain,
        prepare=_mpt,
        renames={
            "d_model": "hidden_size",
            "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads",
            "kv_n_heads": "num_key_value_heads",
        },
        tied=True,
        table=_mpt_positions,
    ),
    Family(
        types=("falcon", "RefinedWeb", "RefinedWebModel"),
        classes=("FalconForCausalLM", "RWForCausalLM"),
        feed=plain,
        prepare=_falcon,
        renames={**_BLOOM, "ffn_hidden_size": "intermediate_size"},
        tied=True,
    ),
    Family(
        types=("chatglm",),
        classes=("ChatGLMModel", "ChatGLMForConditionalGeneration", "ChatGLMForCausalLM"),
        prepare=_chatglm,
        renames={
            "num_layers": "num_hidden_layers",
            "ffn_hidden_size": "intermediate_size",
            "kv_channels": "head_dim",
            "padded_vocab_size": "vocab_size",
        },
    ),
)
"""Decoders from before Llama."""
