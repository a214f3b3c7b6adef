"""Layers of hybrid models: which have attention, which a state, and how files say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from envs.errors import ConfigurationError
from envs.simulator.architectures.family import LayerOf
from envs.simulator.architectures.feeds import experts, mlp, plain
from envs.simulator.architectures.keys import MOST_LAYERS, Keys, shown, whole
from envs.simulator.architectures.layers import Experts, Layer, Mlp, Recurrent
from envs.simulator.architectures.mixers import attention
from envs.simulator.architectures.recurrent import mamba2
from envs.simulator.architectures.windows import FULL, SLIDING

RECURRENT = frozenset({"mamba", "mamba2", "linear_attention", "conv", "recurrent", "M", "linear"})
"""Names of layers without attention."""


def either(other: Callable[[Keys], Recurrent], softmax: LayerOf = attention) -> LayerOf:
    """Returns a mixer that is attention in the layers that the file lists, and else another.

    Args:
        other: What the other layers have.
        softmax: The kind of attention.
    """

    def mixer(keys: Keys, layer: int) -> Layer:
        if _attends(keys, layer):
            return softmax(keys, layer)
        return Layer(recurrent=other(keys))

    return mixer


_LISTS = ("attn_layer_indices", "attn_type_list", "attn_layer_period", "attn_layer_offset")


def _attends(keys: Keys, layer: int) -> bool:
    for name in _LISTS:
        keys.get(name)  # of several ways to say the same, the first counts
    kind = keys.kind("layer_types", layer)
    if kind is not None:
        if kind not in FULL | SLIDING | RECURRENT:
            raise keys.problem("layer_types", f"has a kind of layer that is not known: {kind!r}")
        return kind not in RECURRENT
    listed = keys.layer_numbers("attn_layer_indices")
    if listed is not None:
        return layer in listed
    if "attn_type_list" in keys:
        return bool(keys.each("attn_type_list", layer, least=0))
    if "attn_layer_period" in keys:
        offset = keys.whole("attn_layer_offset", 0, least=0)
        return layer % keys.whole("attn_layer_period") == offset
    return (layer + 1) % keys.whole("full_attention_interval") == 0


def both(keys: Keys, layer: int) -> Layer:
    """Attention and a state-space model side by side (Falcon-H1)."""
    return replace(attention(keys, layer), recurrent=mamba2(keys))


def jamba_feed(keys: Keys, layer: int) -> Mlp | Experts:
    """Jamba: experts in every second layer, or as the file says."""
    period = keys.whole("expert_layer_period", 2)
    offset = keys.whole("expert_layer_offset", 1, least=0)
    if keys.whole("num_experts", 1) > 1 and layer % period == offset % period:
        return experts(keys, layer)
    return mlp(keys, layer)


def granite_feed(keys: Keys, layer: int) -> Mlp | Experts:
    """Granite 4: experts and a shared one, or the shared one alone."""
    if keys.whole("num_experts", 0, least=0):
        return experts(keys, layer)
    return Mlp(width=keys.whole("shared_expert_intermediate_size"))


_PATTERN = {"M": "mamba", "-": "mlp", "*": "attention", "E": "moe"}
_USUAL = dict.fromkeys(RECURRENT, "mamba") | dict.fromkeys(FULL, "attention")


def one_of_each(keys: Keys, layer: int) -> Layer:
    """Nemotron-H: a layer is a state-space model, attention, or a feed-forward layer."""
    kind = keys.kind("kinds", layer)
    if kind in FULL:
        return attention(keys, layer)
    if kind in RECURRENT:
        return Layer(recurrent=mamba2(keys))
    if kind == "mlp":
        return Layer(feed=plain(keys, layer))
    if kind == "moe" and "moe_latent_size" not in keys:
        return Layer(feed=_nemotron_experts(keys))
    named = "moe_latent_size" if kind == "moe" else "hybrid_override_pattern"
    raise keys.problem(named, f"has a kind of layer that is not known: {kind!r}")


def _nemotron_experts(keys: Keys) -> Experts:
    width = keys.whole("moe_intermediate_size")
    alone = keys.whole("num_shared_experts", 1, least=0) > 0  # however many, it is one layer
    return Experts(
        count=keys.whole("num_experts"),
        top_k=keys.whole("num_experts_per_tok"),
        width=width,
        shared=alone * keys.whole("moe_shared_expert_intermediate_size", width),
        matrices=2,
    )


def spelt_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nemotron-H spells its layers as a word, or lists them.

    Raises:
        ConfigurationError: It says them twice, and not the same.
    """
    said: dict[str, list[Any]] = {}
    pattern = values.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        letters = [letter for letter in pattern if letter != "|"]
        said["hybrid_override_pattern"] = [_PATTERN.get(letter, letter) for letter in letters]
    for name in ("layers_block_type", "layer_types"):
        listed = values.get(name)
        if isinstance(listed, list) and listed:
            said[name] = [_USUAL.get(str(kind), kind) for kind in listed]
    kinds = next(iter(said.values()), [])
    count = values.get("num_hidden_layers", len(kinds))
    wrong = [name for name, other in said.items() if other != kinds or len(other) != count]
    if wrong:
        stated = [*said, "num_hidden_layers"] if "num_hidden_layers" in values else [*said]
        raise ConfigurationError(
            f"model: {' and '.join(stated)} of the config.json describe different layers"
        )
    if values.get("tie_word_embeddings"):
        raise ConfigurationError(
            "model: tie_word_embeddings of the config.json must be false: no engine ties them"
        )
    heads = [values[name] for name in ("head_dim", "attention_head_dim") if values.get(name)]
    if len(heads) == 2 and heads[0] != heads[1]:
        raise ConfigurationError(
            "model: head_dim and attention_head_dim of the config.json must be equal, got "
            f"{shown(heads[0])} and {shown(heads[1])}"
        )
    rest = {key: value for key, value in values.items() if key not in said}
    return {**rest, "kinds": kinds, "num_hidden_layers": count, "feeds_given": True}


def kimi_layers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Kimi Linear numbers its layers from 1.

    Raises:
        ConfigurationError: A layer is in both of its lists, or in none.
    """
    part = values.get("linear_attn_config")
    full = part.get("full_attn_layers") if isinstance(part, Mapping) else None
    if not isinstance(full, list) or values.get("layer_types"):
        return dict(values)
    assert isinstance(part, Mapping)
    other, count = part.get("kda_layers"), values.get("num_hidden_layers")
    if isinstance(other, list) and whole(count) and count <= MOST_LAYERS:
        listed = [n for n in (*full, *other) if isinstance(n, int)]
        if sorted(listed) != list(range(1, count + 1)):
            raise ConfigurationError(
                "model: full_attn_layers and kda_layers of the config.json must list each of the "
                f"{count} layers once"
            )
    return {**values, "attn_layer_indices": [n - 1 for n in full if isinstance(n, int)]}


def lfm_width(values: Mapping[str, Any]) -> dict[str, Any]:
    """LFM2 states a width that it cuts to two thirds and rounds up."""
    found = dict(values)
    width = values.get("block_ff_dim", values.get("intermediate_size"))
    if whole(width) and values.get("block_auto_adjust_ff_dim", True):
        width = int(2 * width / 3)
        factor = values.get("block_ffn_dim_multiplier", 1.0)
        step = values.get("block_multiple_of", 256)
        if isinstance(factor, int | float) and 0.0 < factor < 1000.0:
            width = int(factor * width)
        if whole(step):
            width = step * -(-width // step)
    return {**found, "intermediate_size": width}


def griffin_layers(values: Mapping[str, Any]) -> dict[str, Any]:
    """RecurrentGemma repeats a list of kinds, and states the width of gate and projection."""
    kinds, count = values.get("block_types"), values.get("num_hidden_layers")
    if not isinstance(kinds, list) or not kinds or not whole(count) or count > MOST_LAYERS:
        return dict(values)
    width = values.get("intermediate_size")
    return {
        **values,
        "layer_types": [kinds[index % len(kinds)] for index in range(count)],
        "intermediate_size": width // 2 if isinstance(width, int) else width,
    }
