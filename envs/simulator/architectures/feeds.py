"""The feed-forward part of a layer: dense, or a mixture of experts."""

from __future__ import annotations

from collections.abc import Callable

from envs.simulator.architectures.keys import Keys
from envs.simulator.architectures.layers import Experts, Mlp

Feed = Callable[[Keys, int], Mlp | Experts | None]
"""Returns the feed-forward part of a layer."""

DENSE = frozenset({"dense", "mlp"})
SPARSE = frozenset({"sparse", "moe", "hash_moe"})


def mlp(keys: Keys, layer: int) -> Mlp:
    """A gated feed-forward layer, of which a list may give each layer's width."""
    return Mlp(width=keys.each("intermediate_size", layer))


def plain(keys: Keys, layer: int) -> Mlp:
    """A feed-forward layer without a gate, four times as wide as the model by default."""
    width = keys.each("intermediate_size", layer, 4 * keys.whole("hidden_size"))
    return Mlp(width=width, matrices=2)


def experts(keys: Keys, layer: int) -> Mlp | Experts:
    """Experts in the layers that the file says, a gated layer in the others."""
    if not is_sparse(keys, layer):
        dense = keys.each("dense_intermediate_size", layer, keys.each("intermediate_size", layer))
        return Mlp(width=dense)
    return routed(keys, layer)


def routed(keys: Keys, layer: int) -> Experts:
    """Returns a mixture-of-experts layer, whose experts have a gate.

    Args:
        keys: The configuration.
        layer: Index of the layer.

    Raises:
        ConfigurationError: There are fewer experts than a token visits.
    """
    count = keys.each("num_experts", layer)
    top_k = keys.each("num_experts_per_tok", layer)
    if top_k > count:
        raise keys.problem("num_experts_per_tok", f"must be at most {count} experts, got {top_k}")
    width = keys.each("moe_intermediate_size", layer, _dense_width(keys, layer))
    shared = keys.whole("shared_expert_intermediate_size", 0, least=0)
    if not shared:
        each = keys.each("num_shared_experts", layer, 0, least=0)
        shared = each * keys.whole("shared_width", width)
    return Experts(count=count, top_k=top_k, width=width, shared=shared, matrices=3)


def _dense_width(keys: Keys, layer: int) -> int | None:
    return keys.each("intermediate_size", layer) if "intermediate_size" in keys else None


_PLACES = (
    "moe_layers", "moe_layer_freq", "mlp_only_layers", "interleave_moe_layer_step",
    "first_k_dense_replace", "moe_layer_interval",
)  # fmt: skip


def is_sparse(keys: Keys, layer: int) -> bool:
    """Returns whether a layer has experts, by whichever of the known keys the file says it.

    Raises:
        ConfigurationError: A value is of the wrong kind.
    """
    if keys.each("num_experts", layer, 0, least=0) <= 1:
        return False
    for name in _PLACES:
        keys.get(name)  # of several ways to say the same, the first counts
    kind = keys.kind("mlp_layer_types", layer)
    if kind is not None:
        if kind not in DENSE | SPARSE:
            raise keys.problem("mlp_layer_types", f"has a kind that is not known: {kind!r}")
        return kind in SPARSE
    listed = keys.layer_numbers("moe_layers")
    if listed is not None:
        return layer in listed
    marks = keys.get("moe_layer_freq")
    if isinstance(marks, list):
        return bool(keys.each("moe_layer_freq", layer, least=0))
    if layer in (keys.layer_numbers("mlp_only_layers") or []):
        return False
    if (layer + 1) % keys.whole("interleave_moe_layer_step", 1):
        return False
    if layer < keys.whole("first_k_dense_replace", 0, least=0):
        return False
    if layer % keys.whole("moe_layer_freq", 1):
        return False
    return _within(keys, layer)


def _within(keys: Keys, layer: int) -> bool:
    """Returns whether a layer lies in the range, and on the grid, of layers with experts."""
    # Models of several parts list a number for each part.
    firsts = _numbers(keys.get("moe_layer_start_index"))
    lasts = _numbers(keys.get("moe_layer_end_index"))
    if firsts and layer < min(firsts):
        return False
    if lasts and 0 <= max(lasts) < layer:
        return False
    return (layer + 1) % keys.whole("moe_layer_interval", 1) == 0


def _numbers(value: object) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [n for n in values if isinstance(n, int) and not isinstance(n, bool)]
