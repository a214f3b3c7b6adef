"""Encoders of images and sounds beside the language model: weights that take memory.

Adapters that the language model has for images or for sounds count with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from envs.simulator.architectures.keys import MOST_LAYERS, Keys

_ENCODERS = ("vision_config", "audio_config", "vision_tower_config", "image_config")

_USUAL: dict[str, dict[str, int]] = {
    "clip_vision_model": {"hidden_size": 1024, "num_hidden_layers": 24},
    "pixtral": {"hidden_size": 1024, "num_hidden_layers": 24},
    "siglip_vision_model": {
        "hidden_size": 1152,
        "num_hidden_layers": 27,
        "intermediate_size": 4304,
    },
}
"""Sizes of encoders that files of whole models need not state."""


def encoder_params(config: Mapping[str, Any]) -> int:
    """Estimates the weights of encoders from their width and depth, as plain transformers.

    Projections to the language model and patch embeddings are left out, and what a file does not
    say is assumed (four times the width inside), so that this is good to some tens of per cent of
    a part that is itself a few per cent of the model.

    Args:
        config: Contents of the file.
    """
    thinker = config.get("thinker_config")
    places = [config, thinker] if isinstance(thinker, Mapping) else [config]
    stated = [place.get(name) for place in places for name in _ENCODERS]
    encoders = sum(_params(own) for own in (*stated, *_of_processors(config)) if _is(own))
    return encoders + _adapter_params(config)


def _adapter_params(config: Mapping[str, Any]) -> int:
    """Returns the weights of low-rank adapters for images and for sounds, as Phi-4 has them.

    They are on all projections of attention and feed-forward layers.

    Raises:
        ConfigurationError: A rank, or a width of the language model, is no whole number.
    """
    keys = Keys(config, {}, {}, nested=True)
    ranks = [keys.part(name).whole("r") for name in ("vision_lora", "speech_lora") if name in keys]
    if not ranks:
        return 0
    hidden, inner = keys.whole("hidden_size"), keys.whole("intermediate_size")
    heads = keys.whole("num_attention_heads")
    queries = heads * keys.whole("head_dim", max(1, hidden // heads))
    outputs = queries + 2 * queries * keys.whole("num_key_value_heads", heads) // heads
    each = (hidden + outputs) + (queries + hidden) + (hidden + 2 * inner) + (inner + hidden)
    return sum(ranks) * keys.layers * each


def _of_processors(config: Mapping[str, Any]) -> list[Any]:
    """Returns the encoders of files that name what prepares images and sounds, as Phi-4 does."""
    sounds, embedded = config.get("audio_processor"), config.get("embd_layer")
    found = [sounds.get("config")] if _is(sounds) else []
    if _is(embedded) and _is(embedded.get("image_embd_layer")):
        found.append({"model_type": "siglip_vision_model"})  # the file does not say it
    return found


def _is(values: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(values, Mapping)


def _params(values: Mapping[str, Any]) -> int:
    usual = _USUAL.get(str(values.get("model_type")), {})
    keys = Keys(values, {}, usual, nested=True)
    width = _first(keys, "embed_dim", "hidden_size", "width", "d_model", "attention_dim")
    depth = _first(keys, "num_hidden_layers", "depth", "layers", "encoder_layers", "num_blocks")
    if not width or not depth or depth > MOST_LAYERS:
        return 0
    inner = _first(keys, "intermediate_size", "encoder_ffn_dim")
    inner = inner or min(_first(keys, "mlp_ratio") or 4, 100) * width
    return depth * (4 * width * width + 2 * width * inner)


def _first(keys: Keys, *names: str) -> int:
    """Returns the first whole number among values, 0 where there is none."""
    found = (keys.get(name) for name in names)
    return next(
        (n for n in found if isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**24), 0
    )
