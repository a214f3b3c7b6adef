"""What mixes the tokens of a layer without a cache that grows: states and convolutions."""

from __future__ import annotations

from envs.simulator.architectures.keys import Keys
from envs.simulator.architectures.layers import Recurrent

_STATE_BYTES = 4
_HALF_BYTES = 2


def mamba2(keys: Keys) -> Recurrent:
    """A Mamba-2 layer (arXiv:2405.21060 §7): one projection in, a convolution, one out."""
    hidden = keys.whole("hidden_size")
    heads = keys.whole("mamba_n_heads")
    inner = heads * keys.whole(
        "mamba_d_head", max(1, hidden * keys.whole("mamba_expand", 2) // heads)
    )
    inner = keys.whole("mamba_d_ssm", inner)
    states = keys.whole("mamba_d_state")
    mixed = inner + 2 * keys.whole("mamba_n_groups", 1) * states
    taps = keys.whole("mamba_d_conv", 4)
    exact = keys.get("mamba_ssm_cache_dtype") == "float32"
    width = _STATE_BYTES if exact else _HALF_BYTES
    return Recurrent(
        params=hidden * (inner + mixed + heads) + mixed * taps + inner * hidden,
        state_bytes=width * inner * states + _HALF_BYTES * mixed * (taps - 1),
    )


def mamba1(keys: Keys) -> Recurrent:
    """A Mamba layer (arXiv:2312.00752 §3.4)."""
    hidden = keys.whole("hidden_size")
    inner = hidden * keys.whole("mamba_expand", 2)
    states = keys.whole("mamba_d_state", 16)
    rank = keys.get("mamba_dt_rank")
    rank = -(-hidden // 16) if rank in (None, "auto") else keys.whole("mamba_dt_rank")
    taps = keys.whole("mamba_d_conv", 4)
    scan = inner * (rank + 2 * states) + rank * inner + inner * states
    return Recurrent(
        params=hidden * 2 * inner + inner * taps + scan + inner * hidden,
        state_bytes=_HALF_BYTES * inner * (states + taps - 1),
    )


def gated_delta(keys: Keys) -> Recurrent:
    """A gated delta net (arXiv:2412.06464), as in Qwen3-Next."""
    hidden = keys.whole("hidden_size")
    key_heads = keys.whole("linear_num_key_heads")
    value_heads = keys.whole("linear_num_value_heads")
    key_dim, value_dim = keys.whole("linear_key_head_dim"), keys.whole("linear_value_head_dim")
    key, value = key_heads * key_dim, value_heads * value_dim
    taps = keys.whole("linear_conv_kernel_dim", 4)
    mixed = 2 * key + value
    return Recurrent(
        params=hidden * (mixed + value + 2 * value_heads) + mixed * taps + value * hidden,
        state_bytes=_STATE_BYTES * value_heads * key_dim * value_dim,
    )


def kimi_delta(keys: Keys) -> Recurrent:
    """Kimi delta attention (arXiv:2510.26692 §4): finer decay gates of low rank."""
    part = keys.part("linear_attn_config")
    hidden = keys.whole("hidden_size")
    width = part.whole("head_dim", keys.whole("linear_head_dim", 128))
    heads = part.whole("num_heads", keys.whole("linear_num_heads", 32))
    taps = part.whole("short_conv_kernel_size", keys.whole("linear_conv_kernel_dim", 4))
    inner = heads * width
    gates = 2 * (hidden * width + width * inner) + hidden * heads
    return Recurrent(
        params=4 * hidden * inner + gates + 3 * inner * taps,
        state_bytes=_STATE_BYTES * heads * width * width,
    )


def lightning(keys: Keys) -> Recurrent:
    """Lightning attention (arXiv:2401.04658), with an output gate as in MiniMax-01."""
    heads = keys.whole("num_attention_heads")
    hidden = keys.whole("hidden_size")
    width = keys.whole("head_dim", max(1, hidden // heads))
    return Recurrent(
        params=5 * hidden * heads * width, state_bytes=_STATE_BYTES * heads * width * width
    )


def short_convolution(keys: Keys) -> Recurrent:
    """A short gated convolution (LFM2): three projections in, one out."""
    hidden = keys.whole("hidden_size")
    taps = keys.whole("conv_L_cache", 3)
    return Recurrent(
        params=4 * hidden * hidden + hidden * taps,
        state_bytes=_HALF_BYTES * hidden * (taps - 1),
    )


def gated_recurrence(keys: Keys) -> Recurrent:
    """A gated linear recurrence (Griffin, arXiv:2402.19427 §2.4)."""
    hidden = keys.whole("hidden_size")
    width = keys.whole("lru_width", hidden)
    heads = keys.whole("num_attention_heads")
    taps = keys.whole("conv1d_width", 4)
    gates = 2 * width * width // heads
    return Recurrent(
        params=3 * hidden * width + gates + width * taps,
        state_bytes=_STATE_BYTES * width + _HALF_BYTES * width * (taps - 1),
    )
