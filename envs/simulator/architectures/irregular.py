"""Models whose layers differ from one another in width, heads or caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from envs.simulator.architectures.family import Family
from envs.simulator.architectures.feeds import mlp, routed
from envs.simulator.architectures.keys import Keys, shown, whole
from envs.simulator.architectures.layers import Attention, Experts, Layer, Mlp
from envs.simulator.architectures.mixers import attention, shared_cache
from envs.simulator.architectures.recurrent import mamba2
from envs.simulator.architectures.windows import window


def _searched(keys: Keys, layer: int) -> Layer:
    """A block that architecture search chose: heads, width, or nothing (Llama-Nemotron)."""
    blocks = keys.items("block_configs")
    if blocks is None:
        heads = keys.items("num_key_value_heads_per_layer")
        plain = attention(keys, layer)
        if heads is None or not isinstance(plain.attention, Attention):
            return plain
        own = keys.each("num_key_value_heads_per_layer", layer)
        return replace(plain, attention=replace(plain.attention, kv_heads=own))
    if layer >= len(blocks) or not isinstance(blocks[layer], Mapping):
        raise keys.problem("block_configs", f"must describe every layer; layer {layer} has none")
    block = Keys(blocks[layer], {}, {}, nested=True)
    hidden = keys.whole("hidden_size")
    mixed = _searched_attention(keys, block.part("attention"), layer)
    feed, linear = _searched_feed(block.part("ffn"), hidden)
    return replace(mixed, feed=feed, more_params=mixed.more_params + linear)


def _searched_attention(keys: Keys, part: Keys, layer: int) -> Layer:
    if part.flag("no_op"):
        return Layer()
    hidden = keys.whole("hidden_size")
    if part.flag("replace_with_linear"):
        return Layer(more_params=hidden * hidden)
    plain = attention(keys, layer)
    if not isinstance(plain.attention, Attention):
        return plain
    group = part.whole("n_heads_in_group", 1)
    kv_heads = part.whole("num_key_value_heads", max(1, plain.attention.heads // group))
    return Layer(attention=replace(plain.attention, kv_heads=kv_heads))


def _searched_feed(part: Keys, hidden: int) -> tuple[Mlp | None, int]:
    """Returns the feed-forward part, and the weights of a linear layer in its place."""
    if part.flag("no_op"):
        return None, 0
    if part.flag("replace_with_linear"):
        return None, hidden * hidden
    width = part.get("intermediate_size")
    if width is not None:
        return Mlp(width=part.whole("intermediate_size")), 0
    factor = part.get("ffn_mult")
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not number or not 0.0 < factor < 100.0:
        raise part.problem("ffn_mult", f"of block_configs must be over 0, got {factor!r}")
    return Mlp(width=256 * -(-int(2 * factor * hidden / 3) // 256)), 0


def _blocks_given(values: Mapping[str, Any]) -> dict[str, Any]:
    given = "block_configs" in values
    return {**values, "feeds_given": given, **({"intermediate_size": 1} if given else {})}


def _per_layer_inputs(keys: Keys, layer: int) -> Layer:
    """Gemma 3n: a gate and a projection of what each layer looks up, and a low-rank shortcut."""
    base = shared_cache(keys, layer)
    hidden = keys.whole("hidden_size")
    looked_up = keys.whole("hidden_size_per_layer_input", 0, least=0)
    low_rank = 2 * hidden * keys.whole("laurel_rank", 64)
    streams = keys.whole("altup_num_inputs", 4)
    mixing = hidden * streams + streams * (streams * streams + streams)
    return replace(base, more_params=2 * hidden * looked_up + low_rank + mixing)


def _gemma3n_more(keys: Keys) -> int:
    hidden = keys.whole("hidden_size")
    inputs = keys.layers * keys.whole("hidden_size_per_layer_input", 0, least=0)
    streams = keys.whole("altup_num_inputs", 4) - 1
    return hidden * inputs + 2 * streams * hidden * hidden


def _per_layer_table(keys: Keys) -> int:
    inputs = keys.layers * keys.whole("hidden_size_per_layer_input", 0, least=0)
    return inputs * keys.whole("vocab_size_per_layer_input", keys.whole("vocab_size"))


def _gemma4(keys: Keys, layer: int) -> Layer:
    """Gemma 4: wider heads, fewer of them, and keys that are the values, where all is seen."""
    base = shared_cache(keys, layer)
    plain = base.attention
    hidden = keys.whole("hidden_size")
    looked_up = keys.whole("hidden_size_per_layer_input", 0, least=0)
    more = 2 * hidden * looked_up
    last = layer == keys.layers - 1
    if not isinstance(plain, Attention) or (window(keys, layer) and not last):
        return replace(base, more_params=more)
    width = keys.whole("global_head_dim", 512)
    kv_heads = plain.kv_heads
    if keys.flag("attention_k_eq_v"):
        kv_heads = keys.whole("num_global_key_value_heads", kv_heads)
        more -= hidden * kv_heads * width
    wide = replace(plain, key_dim=width, value_dim=width, kv_heads=kv_heads, window=0)
    return replace(base, attention=wide, more_params=more)


def _gemma4_feed(keys: Keys, layer: int) -> Mlp | Experts:
    """A dense layer, twice as wide where the cache is another's, or experts beside one."""
    dense = mlp(keys, layer)
    if keys.flag("enable_moe_block"):
        found = routed(keys, layer)
        return replace(found, shared=dense.width)
    first = keys.layers - keys.whole("num_kv_shared_layers", 0, least=0)
    double = keys.flag("use_double_wide_mlp") and layer >= first
    return Mlp(width=dense.width * (2 if double else 1))


def _gemma4_more(keys: Keys) -> int:
    inputs = keys.layers * keys.whole("hidden_size_per_layer_input", 0, least=0)
    return keys.whole("hidden_size") * inputs


def _shared_block(keys: Keys, layer: int) -> Layer:
    """A state-space model; in hybrid layers also one of a few shared blocks (Zamba2).

    The blocks' weights are counted where they are first used; what belongs to a layer alone is a
    projection and low-rank adapters.
    """
    state = mamba2(keys)
    hybrids = [i for i in range(keys.layers) if keys.kind("layer_types", i) == "hybrid"]
    if layer == 0:
        _refuse_contradictions(keys, hybrids)
    if layer not in hybrids:
        return Layer(recurrent=state)
    hidden = keys.whole("hidden_size")
    heads = keys.whole("num_attention_heads")
    kv_heads = keys.whole("num_key_value_heads", heads)
    width = keys.whole("attention_head_dim", max(1, 2 * hidden // heads))
    inner = keys.whole("intermediate_size", 4 * hidden)
    rank = keys.whole("adapter_rank", 128)
    attends = Attention(heads=heads, kv_heads=kv_heads, key_dim=width, value_dim=width)
    more = hidden * hidden + rank * (hidden + 2 * inner) - attends.params(hidden)
    if keys.flag("use_shared_attention_adapter"):
        more += 3 * rank * 4 * hidden
    if hybrids.index(layer) < keys.whole("num_mem_blocks", 1):
        more += 2 * hidden * width * (heads + 2 * kv_heads) + heads * width * hidden
        more += 3 * hidden * inner
    return Layer(attention=attends, recurrent=state, more_params=more)


def _refuse_contradictions(keys: Keys, hybrids: list[int]) -> None:
    """Refuses a Zamba2 file whose keys say one thing twice and not the same.

    Raises:
        ConfigurationError: It does.
    """
    hidden, heads = keys.whole("hidden_size"), keys.whole("num_attention_heads")
    state_width = keys.whole("mamba_expand", 2) * hidden
    for key, follows in (
        ("attention_hidden_size", 2 * hidden),
        ("attention_head_dim", 2 * hidden // heads),
        ("mamba_d_head", state_width // keys.whole("mamba_n_heads")),
    ):
        if keys.whole(key, follows) != follows:
            raise keys.problem(key, f"must be {follows}, which follows from the other keys")
    if (keys.layer_numbers("hybrid_layer_ids") or hybrids) != hybrids:
        raise keys.problem("hybrid_layer_ids", f"must be the hybrid layers, {shown(hybrids)}")
    if len(keys.items("layer_types") or []) != keys.layers:
        raise keys.problem("layer_types", f"must name {keys.layers} layers (num_hidden_layers)")
    if not keys.flag("tie_word_embeddings", True):
        raise keys.problem("tie_word_embeddings", "must be true: engines share no block otherwise")


def _no_feeds(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "feeds_given": True}


def _open_elm(values: Mapping[str, Any]) -> dict[str, Any]:
    """OpenELM lists heads and ratios of width."""
    found = dict(values)
    hidden, ratios = values.get("model_dim"), values.get("ffn_multipliers")
    step = values.get("ffn_dim_divisor", 256)
    if whole(hidden) and whole(step) and isinstance(ratios, list):
        widths = []
        for ratio in ratios:
            if isinstance(ratio, int | float) and 0 < ratio < 1000:
                near = max(step, int(ratio * hidden + step / 2) // step * step)
                widths.append(near + step if near < 0.9 * ratio * hidden else near)
        found["intermediate_size"] = widths
    return found


IRREGULAR = (
    Family(
        types=("nemotron-nas", "deci", "decilm"),
        classes=("DeciLMForCausalLM",),
        mixer=_searched,
        prepare=_blocks_given,
    ),
    Family(
        types=("gemma3n_text",),
        classes=("Gemma3nForCausalLM",),
        mixer=_per_layer_inputs,
        defaults={"sliding_window_pattern": 5},
        tied=True,
        more=_gemma3n_more,
        table=_per_layer_table,
    ),
    Family(
        types=("gemma4_text",),
        classes=("Gemma4ForCausalLM",),
        mixer=_gemma4,
        feed=_gemma4_feed,
        renames={"top_k_experts": "num_experts_per_tok"},
        defaults={"sliding_window_pattern": 6},
        tied=True,
        more=_gemma4_more,
        table=_per_layer_table,
    ),
    Family(
        types=("zamba2",),
        classes=("Zamba2ForCausalLM",),
        mixer=_shared_block,
        prepare=_no_feeds,
        renames={
            "layers_block_type": "layer_types",
            "n_mamba_heads": "mamba_n_heads",
            "mamba_headdim": "mamba_d_head",
            "mamba_ngroups": "mamba_n_groups",
        },
        defaults={"attention_head_dim": None, "mamba_d_head": None},  # they follow from others
        tied=True,
        understands=("mamba_",),
    ),
    Family(
        types=("openelm",),
        classes=("OpenELMForCausalLM",),
        prepare=_open_elm,
        renames={
            "model_dim": "hidden_size",
            "num_transformer_layers": "num_hidden_layers",
            "num_query_heads": "num_attention_heads",
            "num_kv_heads": "num_key_value_heads",
            "max_context_length": "max_position_embeddings",
            "share_input_output_layers": "tie_word_embeddings",
        },
        tied=True,
    ),
)
"""Models with layers that differ."""
