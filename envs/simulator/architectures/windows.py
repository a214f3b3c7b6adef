"""Which layers attend to a sliding window, and how long it is."""

from __future__ import annotations

from envs.simulator.architectures.keys import Keys

FULL = frozenset({"full_attention", "attention", "global", "global_attention", "hybrid", "full"})
"""Names of layers that attend to everything."""
SLIDING = frozenset({"sliding_attention", "local", "local_attention", "window_attention"})
"""Names of layers that attend to a window."""


def window(keys: Keys, layer: int) -> int:
    """Returns how many tokens a layer attends to; 0 for all.

    Chunked attention (Llama 4) sees between one token and a whole chunk; it counts as a window
    of one chunk.

    Args:
        keys: The configuration.
        layer: Index of the layer.

    Raises:
        ConfigurationError: A value is of the wrong kind.
    """
    if not keys.flag("use_sliding_window", True):
        return 0
    kind = keys.kind("layer_types", layer)
    if kind == "chunked_attention" or keys.flag("chunked"):
        return _chunk(keys, layer, kind)
    tokens = keys.whole("sliding_window", 0, least=0)
    if not tokens:
        return 0
    if kind is not None:
        return tokens if kind in SLIDING else 0
    return tokens if _in_pattern(keys, layer) else 0


def chunked(keys: Keys, layers: int) -> bool:
    """Returns whether any of a number of layers attends within chunks."""
    kinds = [keys.kind("layer_types", layer) for layer in range(layers)]
    return "chunked_attention" in kinds or (keys.flag("chunked") and None in kinds)


def _chunk(keys: Keys, layer: int, kind: str | None) -> int:
    whole = keys.whole("attention_chunk_size", 0, least=0)
    if kind is not None:
        return whole if kind == "chunked_attention" else 0
    rotary = keys.items("no_rope_layers")
    if rotary:
        return whole if keys.each("no_rope_layers", layer, least=0) else 0
    return whole if (layer + 1) % keys.whole("no_rope_layer_interval", 4) else 0


def _in_pattern(keys: Keys, layer: int) -> bool:
    pattern = keys.get("sliding_window_pattern")
    if isinstance(pattern, str) and pattern:
        return pattern[layer % len(pattern)].upper() == "L"
    if isinstance(pattern, list) and pattern:
        return bool(keys.each("sliding_window_pattern", layer % len(pattern), least=0))
    if pattern is not None:
        return bool((layer + 1) % keys.whole("sliding_window_pattern"))
    first = keys.whole("max_window_layers", 0, least=0)
    return layer >= first
