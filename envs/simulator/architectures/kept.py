"""Which weights a quantised checkpoint keeps in 16 bits: modules that it says not to convert."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envs.errors import ConfigurationError
from envs.simulator.architectures.layers import Attention, Experts, Latent, Layer, Mlp, Shape

_Spelling = tuple[str, tuple[tuple[str, int], ...]]
"""A module, and its matrices with the weights of each, or with 1 where they are about the same."""


def _same(module: str, *matrices: str) -> _Spelling:
    """Returns a module whose matrices are of one size; one that holds two is named twice."""
    return module, tuple((matrix, 1) for matrix in matrices)


_RECURRENT = (
    _same("linear_attn", "in_proj_qkvz", "in_proj_ba", "out_proj"),
    _same("linear_attn", "in_proj_qkv", "in_proj_z", "out_proj"),
    _same("mamba", "in_proj", "out_proj"),
    _same("mixer", "in_proj", "out_proj"),
)
_DENSE = (
    _same("mlp", "gate_proj", "up_proj", "down_proj"),
    _same("feed_forward", "gate_proj", "up_proj", "down_proj"),
    _same("mlp", "gate_up_proj", "gate_up_proj", "down_proj"),
)
_PLAIN = (
    _same("mixer", "up_proj", "down_proj"),
    _same("mlp", "up_proj", "down_proj"),
    _same("mlp", "fc1", "fc2"),
    _same("mlp", "c_fc", "c_proj"),
    _same("mlp", "dense_h_to_4h", "dense_4h_to_h"),
)
_SHARED = (
    _same("mlp.shared_experts", "gate_proj", "up_proj", "down_proj"),
    _same("mlp.shared_expert", "gate_proj", "up_proj", "down_proj"),
    _same("feed_forward.shared_expert", "gate_proj", "up_proj", "down_proj"),
)
_PLAIN_SHARED = (_same("mixer.shared_experts", "up_proj", "down_proj"),)
_EXPERT = (
    _same("mlp.experts.0", "gate_proj", "up_proj", "down_proj"),
    _same("mlp.experts", "gate_up_proj", "gate_up_proj", "down_proj"),
    _same("block_sparse_moe.experts.0", "w1", "w2", "w3"),
    _same("feed_forward.experts", "gate_proj", "up_proj", "down_proj"),
)
_PLAIN_EXPERT = (_same("mixer.experts.0", "up_proj", "down_proj"),)


def _attention(part: Attention | Latent, hidden: int) -> tuple[_Spelling, ...]:
    """Returns how the projections of a kind of attention are called, with the weights of each."""
    if isinstance(part, Latent):
        queries = part.heads * (part.nope_dim + part.rope_dim)
        low = (("q_a_proj", hidden * part.q_rank), ("q_b_proj", part.q_rank * queries))
        rest = (
            ("kv_a_proj_with_mqa", hidden * (part.kv_rank + part.rope_dim)),
            ("kv_b_proj", part.kv_rank * part.heads * (part.nope_dim + part.value_dim)),
            ("o_proj", part.heads * part.value_dim * hidden),
        )
        return (("self_attn", (*(low if part.q_rank else (("q_proj", hidden * queries),)), *rest)),)
    query, output = part.heads * part.key_dim, part.heads * part.value_dim
    key, value = (
        (part.kv_heads * part.key_dim, part.kv_heads * part.value_dim) if part.projects else (0, 0)
    )
    four = (("q_proj", query), ("k_proj", key), ("v_proj", value), ("o_proj", output))
    into = query + key + value
    return (
        ("self_attn", four),
        ("mixer", four),
        ("self_attn", (("qkv_proj", into), ("o_proj", output))),
        ("attention", (("wqkv", into), ("wo", output))),
        ("attn", (("c_attn", into), ("c_proj", output))),
    )


_ROOTS = ("model.layers", "model.language_model.layers", "language_model.model.layers",
          "backbone.layers", "transformer.h")  # fmt: skip


class Kept:
    """The modules that stay as they are.

    Args:
        names: Names, beginnings or ends of names, names with ``*``, and regular expressions
            after ``re:``.

    Raises:
        ConfigurationError: An expression is none, or could take for ever to match.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._exact = {name for name in names if not _is_pattern(name) and "layers." in name}
        self._parts = [name for name in names if not _is_pattern(name) and "layers." not in name]
        self._patterns = [_compiled(name) for name in names if _is_pattern(name)]

    def holds(self, module: str) -> bool:
        """Returns whether a module is among them.

        Args:
            module: Its whole name.
        """
        if self._exact:
            words = module.split(".")
            if any(".".join(words[:end]) in self._exact for end in range(1, len(words) + 1)):
                return True
        dotted = f".{module}."
        if any(f".{part.strip('.')}." in dotted for part in self._parts):
            return True
        return any(pattern.match(module) for pattern in self._patterns)


def _is_pattern(name: str) -> bool:
    return name.startswith("re:") or "*" in name


def _compiled(name: str) -> re.Pattern[str]:
    if not name.startswith("re:"):
        return re.compile(re.escape(name).replace(r"\*", ".*") + r"(\..*)?$")
    text = name[3:]
    slow = len(text) > 300 or re.search(r"\)[*+{]", text) or len(re.findall(r"[*+{]", text)) > 6
    try:
        if not slow:
            return re.compile(text)
    except (re.error, RecursionError, OverflowError):
        pass
    raise ConfigurationError(
        f"model: quantization_config names modules by an expression that is not understood: "
        f"{name[:80]!r}; set model.weight_precision yourself"
    )


def kept_params(
    shape: Shape, names: tuple[str, ...], only: tuple[str, ...] = ()
) -> tuple[int, bool]:
    """Returns what a checkpoint leaves in 16 bits.

    Args:
        shape: The model.
        names: See :class:`Kept`.
        only: Modules that alone are converted, named as those are; none for all.

    Returns:
        Dense weights that are left, and whether the routed experts are.
    """
    if not names and not only:
        return 0, False
    kept, converted = Kept(names), Kept(only)

    def stays(index: int, modules: _Modules) -> float:
        left = _fraction(kept, index, modules)
        return max(left, 1.0 - _fraction(converted, index, modules)) if only else left

    left = sum(
        round(params * stays(index, modules))
        for index, layer in enumerate(shape.layers)
        for params, modules in _dense_parts(layer, shape.hidden)
    )
    sparse = [
        (index, _EXPERT if layer.feed.matrices == 3 else _PLAIN_EXPERT)
        for index, layer in enumerate(shape.layers)
        if isinstance(layer.feed, Experts)
    ]
    experts = bool(sparse) and stays(*sparse[-1]) == 1.0
    return left, experts


def dense_params(shape: Shape) -> int:
    """Returns the weights of all parts that :func:`kept_params` looks at."""
    return sum(params for layer in shape.layers for params, _ in _dense_parts(layer, shape.hidden))


_Modules = tuple[_Spelling, ...]


def _dense_parts(layer: Layer, hidden: int) -> Iterator[tuple[int, _Modules]]:
    """Yields weights of the parts of a layer, and the modules they may be called."""
    if layer.attention is not None:
        params = layer.attention.params(hidden) + layer.more_params
        yield params, _attention(layer.attention, hidden)
    if layer.recurrent is not None:
        yield layer.recurrent.params, _RECURRENT
    if isinstance(layer.feed, Mlp):
        yield layer.feed.params(hidden), _DENSE if layer.feed.matrices == 3 else _PLAIN
    elif isinstance(layer.feed, Experts):
        gated = layer.feed.matrices == 3
        yield layer.feed.shared_params(hidden), _SHARED if gated else _PLAIN_SHARED


def _fraction(kept: Kept, index: int, modules: _Modules) -> float:
    """Returns how much of a part is kept, under the spelling that matches most of it."""
    best = 0.0
    for root in _ROOTS:
        for name, matrices in modules:
            whole = sum(weights for _, weights in matrices)
            found = sum(
                weights
                for matrix, weights in matrices
                if kept.holds(f"{root}.{index}.{name}.{matrix}")
            )
            best = max(best, found / whole)
            if best == 1.0:
                return best
    return best
