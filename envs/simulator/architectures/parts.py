"""Where in a ``config.json`` the language model is described, and as which architecture."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from envs.errors import ConfigurationError
from envs.simulator.architectures.keys import shown
from envs.simulator.architectures.table import BY_TYPE, TYPE_OF_CLASS

_LOG = logging.getLogger(__name__)
_HEAD = re.compile(r"(_?(For|LMHead|Head|Model)\w*)?$")
"""What the name of a class says of its head, not of its layers."""
_INNER = ("text_config", "llm_config", "language_config", "thinker_config")
"""Keys under which models of several parts keep the language model."""

_LANGUAGE_OF = {
    "aria": "aria_text",
    "aya_vision": "cohere2",
    "cohere2_vision": "cohere2",
    "deepseek_vl_v2": "deepseek_v2",
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "glm4v": "glm4v_text",
    "glm4v_moe": "glm4v_moe_text",
    "idefics2": "mistral",
    "idefics3": "llama",
    "internvl": "qwen2",
    "kimi_k25": "deepseek_v3",
    "kimi_vl": "deepseek_v3",
    "llama4": "llama4_text",
    "llava": "llama",
    "llava_next": "llama",
    "llava_next_video": "llama",
    "llava_onevision": "qwen2",
    "mistral3": "mistral",
    "mllama": "mllama_text_model",
    "paligemma": "gemma",
    "phi3_v": "phi3",
    "phi4_multimodal": "phi3",
    "phi4mm": "phi3",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_audio": "qwen2",
    "qwen2_vl": "qwen2_vl_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "smolvlm": "llama",
    "step3_vl": "step3_text",
    "vipllava": "llama",
}
"""The architecture of the language model in models of several parts that need not name it."""


class LanguagePart(NamedTuple):
    """The part of a file that describes the language model.

    Attributes:
        kind: The ``model_type`` to read it as.
        values: Its keys and values.
        nested: Whether it stands inside a larger file.
    """

    kind: str
    values: Mapping[str, Any]
    nested: bool


def language_part(config: Mapping[str, Any], read_as: str = "") -> LanguagePart:
    """Finds the language model in a file.

    Args:
        config: Contents of the file.
        read_as: The ``model_type`` to take for the file's own; empty for its own.

    Raises:
        ConfigurationError: The architecture is not known, or a part is no mapping.
    """
    values, nested = config, False
    outer = str(config.get("model_type", ""))
    while inner := next((key for key in _INNER if values.get(key) is not None), None):
        part = values[inner]
        if not isinstance(part, Mapping):
            raise ConfigurationError(
                f"model: {inner} of the config.json must be a mapping, got {shown(part)}"
            )
        values, nested = part, True
        outer = str(values.get("model_type", outer))
    kind = read_as or _kind(config, values, outer)
    if not read_as:
        _refuse_two_names(values)
        _tell_unknown_class(values)
    if kind not in BY_TYPE:
        raise _unknown(config, values, read_as)
    tied = "tie_word_embeddings"
    if nested and tied in config and tied not in values:
        values = {**values, tied: config[tied]}
    return LanguagePart(kind, values, nested)


def _kind(config: Mapping[str, Any], values: Mapping[str, Any], outer: str) -> str:
    """Returns the first of the file's names that is known; empty if none is."""
    candidates = [str(values.get("model_type", ""))]
    candidates += [TYPE_OF_CLASS.get(name, "") for name in _classes(values)]
    candidates += [_LANGUAGE_OF.get(outer, ""), _LANGUAGE_OF.get(str(config.get("model_type")), "")]
    candidates += [TYPE_OF_CLASS.get(name, "") for name in _classes(config)]
    return next((name for name in candidates if name in BY_TYPE), "")


def _refuse_two_names(values: Mapping[str, Any]) -> None:
    """Refuses a file whose two names are of two architectures: engines go by the class.

    Raises:
        ConfigurationError: They are.
    """
    own = str(values.get("model_type", ""))
    for name in _classes(values)[:1]:
        other = TYPE_OF_CLASS.get(name, own)
        if own in BY_TYPE and BY_TYPE[own] is not BY_TYPE[other]:
            raise ConfigurationError(
                f"model: the config.json names two architectures, model_type {own} and "
                f"architectures {name}; give model.read_as the one that it is ({own} or {other})"
            )


def _tell_unknown_class(values: Mapping[str, Any]) -> None:
    """Tells of a file whose ``model_type`` is known and whose class is not one of its own."""
    own = str(values.get("model_type", ""))
    for name in _classes(values)[:1]:
        if own in BY_TYPE and _stem(name) not in _STEMS:
            _told(own, name)


def _stem(name: str) -> str:
    return _HEAD.sub("", name).lower().replace("_", "").removesuffix("text")


_STEMS = frozenset(map(_stem, (*BY_TYPE, *TYPE_OF_CLASS)))


@cache
def _told(own: str, name: str) -> None:
    _LOG.warning(
        "model: the class %s (architectures of the config.json) is not known; the file is read as "
        "its model_type, %s",
        name,
        own,
    )


def _classes(values: Mapping[str, Any]) -> list[str]:
    names = values.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


_NAMES = frozenset({"model_type", "architectures", "auto_map", "transformers_version"})


def _unknown(
    config: Mapping[str, Any], values: Mapping[str, Any], read_as: str
) -> ConfigurationError:
    """Returns the refusal of an architecture, with the keys that nobody here can read."""
    if read_as:
        return ConfigurationError(
            f"model.read_as: no architecture {read_as!r}; there are {', '.join(sorted(BY_TYPE))}"
        )
    named = [*_classes(config), str(config.get("model_type", ""))]
    name = ", ".join(filter(None, named)) or "of no name (no model_type, no architectures)"
    common = {key for key in values if key in _UNDERSTOOD}
    rest = sorted(str(key) for key in values if key not in common | _NAMES)
    listed = ", ".join(rest[:40]) + (f" and {len(rest) - 40} more" if len(rest) > 40 else "")
    return ConfigurationError(
        f"model: the architecture {name} is not known; keys that were not understood: "
        f"{listed or 'none'}. Give model.read_as the model_type of an architecture that has the "
        "same layers (such as llama), or describe the model in a file of conf/model"
    )


_UNDERSTOOD = frozenset(
    {
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
        "tie_word_embeddings", "torch_dtype", "dtype", "hidden_act", "rms_norm_eps",
        "initializer_range", "use_cache", "bos_token_id", "eos_token_id", "pad_token_id",
        "rope_theta", "rope_scaling", "attention_bias", "attention_dropout",
        "quantization_config", "_name_or_path",
    }
)  # fmt: skip
"""Keys that mean the same everywhere."""
