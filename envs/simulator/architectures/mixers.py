"""What mixes the tokens of a layer: softmax attention in its kinds."""

from __future__ import annotations

from dataclasses import replace

from envs.simulator.architectures.keys import Keys
from envs.simulator.architectures.layers import Attention, Latent, Layer
from envs.simulator.architectures.windows import FULL, SLIDING, window


def attention(keys: Keys, layer: int) -> Layer:
    """Multi-head, grouped-query or multi-query attention, over all tokens or a window."""
    known = {*FULL, *SLIDING, "chunked_attention"}
    kind = keys.kind("layer_types", layer)
    if kind is not None and kind not in known:
        raise keys.problem("layer_types", f"has a kind of layer that is not known: {kind!r}")
    return Layer(attention=_heads(keys, layer))


def _heads(keys: Keys, layer: int) -> Attention:
    heads = keys.each("num_attention_heads", layer)
    kv_heads = keys.each("num_key_value_heads", layer, heads)
    if keys.flag("multi_query"):
        kv_heads = 1
    if heads % kv_heads:
        raise keys.problem("num_key_value_heads", f"must divide {heads} heads, got {kv_heads}")
    # Some files state a width of 0 for the usual one.
    width = keys.whole("head_dim", 0, least=0) or max(1, keys.whole("hidden_size") // heads)
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        key_dim=width,
        value_dim=width,
        window=window(keys, layer),
    )


def square_attention(keys: Keys, layer: int) -> Layer:
    """Attention whose output projection takes heads to be as wide as the model (Helium)."""
    heads = _heads(keys, layer)
    hidden = keys.whole("hidden_size")
    if heads.heads * heads.key_dim != hidden:
        raise keys.problem(
            "head_dim",
            f"is {heads.key_dim}: {heads.heads} heads (num_attention_heads) of it must be "
            f"{hidden} wide (hidden_size)",
        )
    return Layer(attention=heads)


def gated_attention(keys: Keys, layer: int) -> Layer:
    """Attention whose output a projection of the input gates, element by element."""
    heads = _heads(keys, layer)
    gate = keys.whole("hidden_size") * heads.heads * heads.value_dim
    return Layer(attention=heads, more_params=gate)


def narrow_values(keys: Keys, layer: int) -> Layer:
    """Attention with values narrower than keys, and other heads in windowed layers (MiMo-V2)."""
    here = window(keys, layer)
    own = "swa_" if here else ""
    heads = keys.whole(f"{own}num_attention_heads", keys.whole("num_attention_heads"))
    kv_heads = keys.whole(f"{own}num_key_value_heads", keys.whole("num_key_value_heads", heads))
    key_dim = keys.whole(f"{own}head_dim", keys.whole("head_dim"))
    value_dim = keys.whole(f"{own}v_head_dim", keys.whole("v_head_dim", key_dim))
    return Layer(
        attention=Attention(
            heads=heads, kv_heads=kv_heads, key_dim=key_dim, value_dim=value_dim, window=here
        )
    )


def latent(keys: Keys, layer: int) -> Layer:
    """Multi-head latent attention; ordinary attention where the file gives no latent."""
    if "kv_lora_rank" not in keys:
        return attention(keys, layer)
    return Layer(
        attention=Latent(
            heads=keys.whole("num_attention_heads"),
            kv_rank=keys.whole("kv_lora_rank"),
            q_rank=keys.whole("q_lora_rank", 0, least=0),
            rope_dim=keys.whole("qk_rope_head_dim", least=0),
            nope_dim=keys.whole("qk_nope_head_dim"),
            value_dim=keys.whole("v_head_dim"),
        )
    )


INDEX_SCALE_BYTES = 4
"""An index key is cached in FP8 with one 32-bit scale per 128 values (vLLM, DeepSeek-V3.2)."""


def indexed(keys: Keys, layer: int) -> Layer:
    """Latent attention to the tokens that an indexer chooses (DeepSeek-V3.2).

    The indexer projects queries from the query latent, and one key and the heads' weights from
    the input; its keys are cached beside the latent. Which tokens are chosen is not modelled:
    the cache is read as in full attention, so long contexts are priced too high.
    """
    plain = latent(keys, layer)
    width = keys.whole("index_head_dim")
    heads = keys.whole("index_n_heads")
    keys.get("index_topk")
    keys.kind("indexer_types", layer)
    hidden = keys.whole("hidden_size")
    query = keys.whole("q_lora_rank", hidden)
    return Layer(
        attention=plain.attention,
        more_params=query * heads * width + hidden * (width + heads),
        more_cache_bytes=width + INDEX_SCALE_BYTES * -(-width // 128),
    )


def cross_or_self(keys: Keys, layer: int) -> Layer:
    """Attention, in some layers to an image instead of the text (Llama 3.2 Vision)."""
    plain = _heads(keys, layer)
    if layer not in (keys.layer_numbers("cross_attention_layers") or []):
        return Layer(attention=plain)
    return Layer(attention=replace(plain, window=0, cached=False))


def shared_cache(keys: Keys, layer: int) -> Layer:
    """Attention whose last layers read the cache of earlier ones (Gemma 3n and 4)."""
    plain = _heads(keys, layer)
    first = keys.layers - keys.whole("num_kv_shared_layers", 0, least=0)
    return Layer(attention=replace(plain, cached=layer < first, projects=layer < first))


def paired_cache(keys: Keys, layer: int) -> Layer:
    """Attention with keys and values shared by a few neighbouring layers (Hunyuan-Large)."""
    plain = _heads(keys, layer)
    every = keys.whole("cla_share_factor", 1)
    every = every if keys.flag("use_cla") else 1
    own = layer % every == 0
    return Layer(attention=replace(plain, cached=own, projects=own))
