"""Folds the layers of a model into the fields of a :class:`~envs.simulator.models.ModelSpec`.

A specification holds one kind each of attention, feed-forward layer and expert, and says how many
layers have it. Where layers differ the commonest one is stated, and what the others have more or
less of is stated beside it, so that weights and cache add up exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from envs.errors import ConfigurationError
from envs.simulator.architectures.layers import Attention, Experts, Latent, Layer, Mlp, Shape

T = TypeVar("T")
CACHE_BYTES = 2
"""Bytes of a cached key or value element, as a specification assumes."""


def fold(shape: Shape) -> dict[str, Any]:
    """Returns the fields of a specification.

    Raises:
        ConfigurationError: The model has no cache of keys and values, or experts that differ.
    """
    layers = shape.layers
    attending = [layer.attention for layer in layers if layer.attention is not None]
    if not any(own.cached_elements for own in attending):
        raise ConfigurationError(
            "model: the config.json describes no layer with attention and a cache of its own; a "
            "server of such a model has no KV cache to run out of, which is not simulated"
        )
    fields: dict[str, Any] = {
        "layers": len(layers),
        "hidden": shape.hidden,
        "vocab": shape.vocab,
        "tied_embeddings": shape.tied,
        "max_model_len": shape.max_tokens,
    }
    more_params = shape.more_params + sum(layer.more_params for layer in layers)
    more_cache = sum(layer.more_cache_bytes for layer in layers)
    for part, params, cache in (
        _attention(shape, attending),
        (_recurrent(layers), 0, 0),
        (_windows(shape, attending), 0, 0),
        (*_feeds(shape), 0),
    ):
        fields.update(part)
        more_params += params
        more_cache += cache
    optional = {
        "more_params": more_params,
        "more_cache_bytes": more_cache,
        "table_params": shape.table_params,
    }
    fields.update({name: value for name, value in optional.items() if value})
    return fields


def _commonest(values: Iterable[T]) -> T:
    return Counter(values).most_common(1)[0][0]


def _attention(
    shape: Shape, attending: list[Attention | Latent]
) -> tuple[dict[str, Any], int, int]:
    """Returns fields, weights beside them, and bytes of cache beside them."""
    usual = _commonest(map(_kind, attending))
    base = next(a for a in attending if _kind(a) == usual)
    without = len(shape.layers) - len(attending)
    fields: dict[str, Any] = {"attention_free_layers": without}
    cached = sum(a.cached_elements > 0 for a in attending)
    if cached < len(attending):
        fields["cached_layers"] = cached
    if isinstance(base, Latent):
        fields |= {
            "heads": base.heads,
            "kv_heads": base.heads,
            "head_dim": base.nope_dim + base.rope_dim,
            "latent_kv_rank": base.kv_rank,
            "latent_q_rank": base.q_rank,
            "latent_rope_dim": base.rope_dim,
            "latent_nope_dim": base.nope_dim,
            "latent_v_dim": base.value_dim,
        }
        each = base.cached_elements
    else:
        fields |= {"heads": base.heads, "kv_heads": base.kv_heads, "head_dim": base.key_dim}
        if base.value_dim != base.key_dim:
            fields["value_dim"] = base.value_dim
        each = base.kv_heads * (base.key_dim + base.value_dim)
    plain = replace(base, projects=True) if isinstance(base, Attention) else base
    params = sum(a.params(shape.hidden) for a in attending)
    params -= len(attending) * plain.params(shape.hidden)
    cache = CACHE_BYTES * (sum(a.cached_elements for a in attending) - cached * each)
    return fields, params, cache


def _kind(part: Attention | Latent) -> tuple[object, ...]:
    """Returns what layers share that are stated as one."""
    if isinstance(part, Latent):
        return Latent, part.heads
    return Attention, part.heads, part.kv_heads, part.key_dim


def _recurrent(layers: list[Layer]) -> dict[str, Any]:
    parts = [layer.recurrent for layer in layers if layer.recurrent is not None]
    if not parts:
        return {}
    return {
        "linear_layers": len(parts),
        "linear_params_per_layer": round(sum(part.params for part in parts) / len(parts)),
        "linear_state_bytes": round(sum(part.state_bytes for part in parts) / len(parts)),
    }


def _windows(shape: Shape, attending: list[Attention | Latent]) -> dict[str, Any]:
    """Returns the longest window that is shorter than the context, and what part of the cache."""
    local = [a for a in attending if isinstance(a, Attention) and 0 < a.window < shape.max_tokens]
    if not local:
        return {}
    inside = sum(a.cached_elements for a in local)
    return {
        "sliding_window_tokens": max(a.window for a in local),
        "sliding_window_fraction": inside / sum(a.cached_elements for a in attending),
    }


def _feeds(shape: Shape) -> tuple[dict[str, Any], int]:
    """Returns fields, and the weights of dense layers beside them."""
    feeds = [layer.feed for layer in shape.layers]
    dense = [feed for feed in feeds if isinstance(feed, Mlp)]
    sparse = [feed for feed in feeds if isinstance(feed, Experts)]
    fields: dict[str, Any] = {"mlp_intermediate": 0}
    more = 0
    if dense:
        usual = _commonest(dense)
        fields |= {"mlp_intermediate": usual.width, "mlp_matrices": usual.matrices}
        more = sum(feed.params(shape.hidden) for feed in dense)
        more -= len(dense) * usual.params(shape.hidden)
    none = sum(feed is None for feed in feeds)
    if none:
        fields["mlp_free_layers"] = none
    if sparse:
        one = _commonest((e.count, e.top_k, e.width, e.matrices) for e in sparse)
        if any((e.count, e.top_k, e.width, e.matrices) != one for e in sparse):
            raise ConfigurationError(
                "model: the config.json gives layers different experts, which is not simulated"
            )
        usual_shared = _commonest(e.shared for e in sparse)
        more += sparse[0].matrices * shape.hidden * (
            sum(e.shared for e in sparse) - len(sparse) * usual_shared
        )  # fmt: skip
        fields |= {
            "experts": one[0],
            "top_k": one[1],
            "expert_intermediate": one[2],
            "shared_expert_intermediate": usual_shared,
            "moe_layers": len(sparse),
        }
        if one[3] != 3:
            fields["expert_matrices"] = one[3]
    return fields, more
