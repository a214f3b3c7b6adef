"""Which weights a quantised checkpoint keeps in 16 bits: modules that it says not to convert."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envs.errors import ConfigurationError
from envs.simulator.architectures.layers import Experts, Layer, Mlp, Shape

# A module that holds two matrices of one size is named twice.
_ATTENTION = (
    ("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj")),
    ("self_attn", ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")),
    ("attention", ("wqkv", "wo")),
    ("attn", ("c_attn", "c_proj")),
    ("mixer", ("q_proj", "k_proj", "v_proj", "o_proj")),
)
_RECURRENT = (
    ("linear_attn", ("in_proj_qkvz", "in_proj_ba", "out_proj")),
    ("linear_attn", ("in_proj_qkv", "in_proj_z", "out_proj")),
    ("mamba", ("in_proj", "out_proj")),
    ("mixer", ("in_proj", "out_proj")),
)
_DENSE = (
    ("mlp", ("gate_proj", "up_proj", "down_proj")),
    ("feed_forward", ("gate_proj", "up_proj", "down_proj")),
    ("mlp", ("gate_up_proj", "gate_up_proj", "down_proj")),
    ("mixer", ("up_proj", "down_proj")),
)
_SHARED = (
    ("mlp.shared_experts", ("gate_proj", "up_proj", "down_proj")),
    ("mlp.shared_expert", ("gate_proj", "up_proj", "down_proj")),
    ("feed_forward.shared_expert", ("gate_proj", "up_proj", "down_proj")),
    ("mixer.shared_experts", ("up_proj", "down_proj")),
)
_EXPERT = (
    ("mlp.experts.0", ("gate_proj", "up_proj", "down_proj")),
    ("mlp.experts", ("gate_up_proj", "gate_up_proj", "down_proj")),
    ("block_sparse_moe.experts.0", ("w1", "w2", "w3")),
    ("feed_forward.experts", ("gate_proj", "up_proj", "down_proj")),
    ("mixer.experts.0", ("up_proj", "down_proj")),
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


def kept_params(shape: Shape, names: tuple[str, ...]) -> tuple[int, bool]:
    """Returns what a checkpoint leaves in 16 bits.

    Args:
        shape: The model.
        names: See :class:`Kept`.

    Returns:
        Dense weights that are left, and whether the routed experts are.
    """
    if not names:
        return 0, False
    kept = Kept(names)
    left = sum(
        round(params * _fraction(kept, index, modules))
        for index, layer in enumerate(shape.layers)
        for params, modules in _dense_parts(layer, shape.hidden)
    )
    sparse = [i for i, layer in enumerate(shape.layers) if isinstance(layer.feed, Experts)]
    experts = bool(sparse) and all(_fraction(kept, i, _EXPERT) == 1.0 for i in sparse[-1:])
    return left, experts


def dense_params(shape: Shape) -> int:
    """Returns the weights of all parts that :func:`kept_params` looks at."""
    return sum(params for layer in shape.layers for params, _ in _dense_parts(layer, shape.hidden))


_Modules = tuple[tuple[str, tuple[str, ...]], ...]


def _dense_parts(layer: Layer, hidden: int) -> Iterator[tuple[int, _Modules]]:
    """Yields weights of the parts of a layer, and the modules they may be called."""
    if layer.attention is not None:
        yield layer.attention.params(hidden) + layer.more_params, _ATTENTION
    if layer.recurrent is not None:
        yield layer.recurrent.params, _RECURRENT
    if isinstance(layer.feed, Mlp):
        yield layer.feed.params(hidden), _DENSE
    elif isinstance(layer.feed, Experts):
        yield layer.feed.shared_params(hidden), _SHARED


def _fraction(kept: Kept, index: int, modules: _Modules) -> float:
    """Returns how much of a part is kept, under the spelling that matches most of it."""
    best = 0.0
    for root in _ROOTS:
        for name, leaves in modules:
            found = sum(kept.holds(f"{root}.{index}.{name}.{leaf}") for leaf in leaves)
            best = max(best, found / len(leaves))
            if best == 1.0:
                return best
    return best
