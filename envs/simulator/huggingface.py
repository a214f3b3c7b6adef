"""Reads a model's shape from its Hugging Face ``config.json``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from envs.errors import ConfigurationError
from envs.simulator.architectures.encoders import encoder_params
from envs.simulator.architectures.fold import fold
from envs.simulator.architectures.kept import dense_params, kept_params
from envs.simulator.architectures.keys import Keys
from envs.simulator.architectures.parts import language_part
from envs.simulator.architectures.precision import precision, refuse_stated_beside
from envs.simulator.architectures.table import BY_TYPE, defaults_of
from envs.simulator.architectures.windows import chunked
from envs.strict_json import read_json

MOSTLY = 0.9
"""A mixture of experts whose dense weights are kept to this part is one with quantised experts."""
MOST_BYTES = 50_000_000
"""Size of the largest file that is taken for a configuration."""


def read_config(path: Path, given: Collection[str] = (), read_as: str = "") -> dict[str, Any]:
    """Returns the fields of a :class:`~envs.simulator.models.ModelSpec` for a ``config.json``.

    Args:
        path: The file, or the folder that holds it.
        given: Fields that are known already, so that the file need not say them.
        read_as: The ``model_type`` to read the file as; empty for the file's own.

    Raises:
        ConfigurationError: The file is missing, is not JSON, lacks a shape or describes an
            architecture that is not known.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        if not file.is_file():
            raise ConfigurationError(f"model: cannot read {file}: no such file")
        if file.stat().st_size > MOST_BYTES:
            raise ConfigurationError(f"model: {file} is too large for a config.json")
        config = read_json(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"model: cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"model: {file} cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"model: {file} holds no JSON object")
    try:
        if "weight_precision" not in given:
            refuse_stated_beside(config, file.parent)
        return spec_fields(config, file.parent.name, given, read_as)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} ({file})") from None


def spec_fields(
    config: Mapping[str, Any], name: str = "", given: Collection[str] = (), read_as: str = ""
) -> dict[str, Any]:
    """Returns the fields of a model specification for the contents of a ``config.json``.

    :data:`envs.simulator.architectures.table.TABLE` holds the architectures that are known.

    Args:
        config: Contents of the file.
        name: Name to give the model when the configuration holds none.
        given: Fields that are known already, so that the configuration need not say them.
        read_as: The ``model_type`` to read it as; empty for its own.

    Raises:
        ConfigurationError: A value is missing or makes no sense, or the architecture, the way
            in which weights are stored, or a key that changes the layers is not known.
    """
    kind, values, nested = language_part(config, read_as)
    family = BY_TYPE[kind]
    keys = Keys(family.prepare(values), family.renames, defaults_of(kind, family), nested=nested)
    shape = family.shape(keys)
    _refuse_unread(keys, kind, family.understands)
    fields = fold(shape)
    fields["name"] = str(config.get("_name_or_path") or name or kind)
    fields["family"] = kind
    if chunked(keys, len(shape.layers)):
        fields["chunked_attention"] = True
    encoders = encoder_params(config)
    if encoders:
        fields["encoder_params"] = encoders
    if "weight_precision" not in given:
        stored = precision(config, values)
        fields["weight_precision"] = stored.weights
        left, experts_left = kept_params(shape, stored.kept, stored.only)
        if stored.experts and not shape.is_sparse:
            fields["weight_precision"] = stored.experts
        elif stored.experts:
            fields["expert_precision"] = stored.experts
        elif experts_left:
            fields["expert_precision"] = "bf16"
        elif shape.is_sparse and left >= MOSTLY * dense_params(shape):
            fields |= {"weight_precision": "bf16", "expert_precision": stored.weights}
        if left and fields["weight_precision"] != "bf16":
            fields["unconverted_params"] = left
        if stored.cache_bytes is not None:
            fields["kv_bytes"] = stored.cache_bytes
    return fields


_CHANGES_LAYERS = re.compile(
    r"expert|moe|mamba|ssm|lora_rank|block_configs|linear_attn|linear_num|index_head|"
    r"cross_attention_layers|share_factor|kv_shared|attn_layer|hybrid|layer_list|altup"
)
"""Keys that say something about the layers that a reader must have understood."""

_CHANGES_NOTHING = re.compile(
    r"router|aux_loss|jitter|norm_topk|routing|routed_scaling|scoring|correction|bias|capacity|"
    r"drop|hidden_act|scaling|kernel|chunk|dt_|time_step|rms|norm|precision|dtype|grouped|"
    r"_ep_|ep_size|use_moe|moe_gate|gate$|gating|softmax|group|eps|std|init|loss|tp_size|"
    r"multiplier|fusion|fp32|overlap|output|layer_norm|multimodality|swiglu|intermediate_size$|"
    r"layer_start|layer_end|n_embed|expert_type|type$|num_skipped|"
    r"(alpha|beta)_factor|aux_free|_mode$|parallel|statics|use_mla|_act$|frequency$|"
    r"altup_(active|coef|correct)|compress|use_mixed_mlp_moe|mtp|_coef|token_balance|padding"
)
"""Those among them that change neither weights nor cache."""


def _refuse_unread(keys: Keys, kind: str, understood: tuple[str, ...]) -> None:
    unread = sorted(
        key
        for key in keys.unread()
        if _CHANGES_LAYERS.search(key)
        and not _CHANGES_NOTHING.search(key)
        and not key.startswith(understood)
    )
    if unread:
        raise ConfigurationError(
            f"model: the config.json gives a {kind} keys that were not understood and may change "
            f"its layers: {', '.join(unread)}"
        )
