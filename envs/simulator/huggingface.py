"""Reads a model's shape from its Hugging Face ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from envs.errors import ConfigurationError


def read_config(path: Path, given: Collection[str] = ()) -> dict[str, Any]:
    """Returns the fields of a :class:`~envs.simulator.models.ModelSpec` for a ``config.json``.

    Args:
        path: The file, or the folder that holds it.
        given: Fields that are known already, so that the file need not say them.

    Raises:
        ConfigurationError: The file is missing, is not JSON or lacks a shape.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"model: cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"model: {file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"model: {file} holds no JSON object")
    try:
        return spec_fields(config, file.parent.name, given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} ({file})") from None


def spec_fields(
    config: Mapping[str, Any], name: str = "", given: Collection[str] = ()
) -> dict[str, Any]:
    """Returns the fields of a model specification for the contents of a ``config.json``.

    Understands the key names of the Llama, Mistral, Mixtral, Qwen (dense and MoE), OLMoE,
    Phi-MoE, Gemma, GPT-2, gpt-oss and DeepSeek configurations, and any other that uses them.

    Args:
        config: Contents of the file; a multimodal model's ``text_config`` is used if present.
        name: Name to give the model when the configuration holds none.
        given: Fields that are known already, so that the configuration need not say them.
    """
    text = {**config, **config["text_config"]} if "text_config" in config else dict(config)
    layers = int(_need(text, "num_hidden_layers", "n_layer"))
    heads = int(_need(text, "num_attention_heads", "n_head"))
    hidden = int(_need(text, "hidden_size", "n_embd"))
    dense_width = int(_first(text, "intermediate_size", "n_inner") or 4 * hidden)
    fields: dict[str, Any] = {
        "name": str(config.get("_name_or_path") or name or text.get("model_type", "model")),
        "family": str(text.get("model_type", "")),
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": int(_first(text, "num_key_value_heads") or heads),
        "head_dim": int(_first(text, "head_dim") or hidden // heads),
        "mlp_intermediate": dense_width,
        "mlp_matrices": 2 if text.get("model_type") in {"gpt2", "opt", "phi"} else 3,
        "vocab": int(_need(text, "vocab_size")),
        "tied_embeddings": bool(text.get("tie_word_embeddings", text.get("model_type") == "gpt2")),
        "max_model_len": int(_first(text, "max_position_embeddings", "n_positions") or 4096),
    }
    if "weight_precision" not in given:
        fields["weight_precision"] = _precision(config)
    fields.update(_experts(text, layers, dense_width))
    fields.update(_latent(text))
    fields.update(_window(text, layers))
    return fields


def _first(config: Mapping[str, Any], *keys: str) -> Any:
    return next((config[key] for key in keys if config.get(key) is not None), None)


def _need(config: Mapping[str, Any], *keys: str) -> Any:
    value = _first(config, *keys)
    if value is None:
        raise ConfigurationError(f"model: the config.json lacks {' or '.join(keys)}")
    return value


def _experts(config: Mapping[str, Any], layers: int, dense_width: int) -> dict[str, Any]:
    experts = int(
        _first(config, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
        or 0
    )
    if not experts:
        return {}
    width = int(_first(config, "moe_intermediate_size", "expert_intermediate_size") or dense_width)
    shared = int(_first(config, "shared_expert_intermediate_size") or 0)
    shared = shared or width * int(_first(config, "n_shared_experts") or 0)
    if "mlp_only_layers" in config or "decoder_sparse_step" in config:
        step = int(config.get("decoder_sparse_step") or 1)
        dense = set(config.get("mlp_only_layers") or [])
        moe_layers = sum(i not in dense and (i + 1) % step == 0 for i in range(layers))
    elif "first_k_dense_replace" in config:
        frequency = int(config.get("moe_layer_freq") or 1)
        first = int(config["first_k_dense_replace"])
        moe_layers = sum(i >= first and i % frequency == 0 for i in range(layers))
    elif "interleave_moe_layer_step" in config:
        moe_layers = layers // int(config["interleave_moe_layer_step"])
    else:
        moe_layers = layers
    return {
        "experts": experts,
        "top_k": int(_need(config, "num_experts_per_tok", "experts_per_token", "moe_topk")),
        "expert_intermediate": width,
        "shared_expert_intermediate": shared,
        "moe_layers": moe_layers,
        "mlp_intermediate": dense_width if moe_layers < layers else 0,
    }


def _latent(config: Mapping[str, Any]) -> dict[str, Any]:
    if not config.get("kv_lora_rank"):
        return {}
    return {
        "latent_kv_rank": int(config["kv_lora_rank"]),
        "latent_q_rank": int(config.get("q_lora_rank") or 0),
        "latent_rope_dim": int(_need(config, "qk_rope_head_dim")),
        "latent_nope_dim": int(_need(config, "qk_nope_head_dim")),
        "latent_v_dim": int(_need(config, "v_head_dim")),
    }


def _window(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return {}
    types = config.get("layer_types")
    if types:
        fraction = sum(kind == "sliding_attention" for kind in types) / len(types)
    elif config.get("sliding_window_pattern"):
        pattern = int(config["sliding_window_pattern"])
        fraction = 1.0 - (layers // pattern) / layers
    else:
        fraction = 0.5 if config.get("model_type") == "gemma2" else 1.0
    return {"sliding_window_tokens": int(window), "sliding_window_fraction": fraction}


def _precision(config: Mapping[str, Any]) -> str:
    quantization = config.get("quantization_config")
    if quantization:
        method = str(quantization.get("quant_method", ""))
        if "fp8" in method:
            return "fp8_block" if quantization.get("weight_block_size") else "fp8"
        if method in {"awq", "gptq"} or quantization.get("bits") == 4:
            return "int4"
        if method == "mxfp4":
            return "mxfp4"
        raise ConfigurationError(
            f"model: quantization_config.quant_method {method!r} is not known; "
            "set model.weight_precision yourself"
        )
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    return "fp32" if dtype in {"float32", "float"} else "bf16"
