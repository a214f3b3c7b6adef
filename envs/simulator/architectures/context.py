"""How many tokens of context a model has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs.simulator.architectures.keys import Keys, shown

_NAMES = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
_STRETCHED = frozenset({"linear", "dynamic", "ntk"})
"""Kinds of rotary scaling whose factor stretches the stated length."""
_FROM_ORIGINAL = frozenset({"yarn", "deepseek_yarn"})
"""Kinds whose factor stretches the length that the model was first trained with."""
MOST_TOKENS = 10_000_000


def context_tokens(keys: Keys) -> int:
    """Returns the context length: the shortest that is stated, stretched by rotary scaling.

    ``model_max_length`` counts before the others where it is beside them (Command-R), as in vLLM.

    Raises:
        ConfigurationError: A length or a factor is no number that makes sense.
    """
    stated = [keys.whole(name) for name in _NAMES if name in keys]
    if "model_max_length" in keys:
        stated = [keys.whole("model_max_length")]
    tokens = min(stated, default=4096)
    scaling = keys.get("rope_scaling")
    if scaling is None:
        scaling = {}
    if not isinstance(scaling, Mapping):
        raise keys.problem("rope_scaling", f"must be a mapping, got {shown(scaling)}")
    kind = str(scaling.get("rope_type", scaling.get("type")))
    if kind in _STRETCHED:
        tokens = round(tokens * _factor(keys, scaling))
    elif kind in _FROM_ORIGINAL:
        original = scaling.get("original_max_position_embeddings", 0)
        if isinstance(original, int) and 0 < original <= MOST_TOKENS:
            tokens = max(tokens, round(original * _factor(keys, scaling)))
    return max(1, min(tokens, MOST_TOKENS))


def _factor(keys: Keys, scaling: Mapping[str, Any]) -> float:
    factor = scaling.get("factor", 1.0)
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not number or not 0.0 < factor <= 1e4:
        raise keys.problem("rope_scaling", f"must have a factor over 0, got {shown(factor)}")
    return float(factor)
