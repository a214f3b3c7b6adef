"""What is simulated, in plain numbers: the model as it was read, its memory, its capacity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import build_server_spec
from envs.scenario import Scenario
from envs.simulator.memory import kv_cache_tokens, weight_bytes_per_gpu
from envs.simulator.models import ModelSpec
from envs.simulator.server_spec import ServerSpec

DESCRIPTION_FILE = "describe.json"


def describe_scenario(scenario: Scenario) -> dict[str, Any]:
    """Returns what a scenario's server is, and what it delivers when it is saturated.

    Args:
        scenario: What is to be simulated.

    Raises:
        ConfigurationError: A part of it is wrong, or its server is live.
        InfeasibleModelError: The model does not fit into the GPUs' memory.
    """
    server = build_server_spec(scenario)
    return {**describe_model(server.model), **_server(server)}


def describe_choice(scenario: Scenario) -> dict[str, Any]:
    """Returns what :func:`describe_scenario` does, also of a model that the GPUs cannot serve.

    What keeps it from being served is then under ``problem``, and what only a server has is
    ``None``.

    Args:
        scenario: What is to be simulated.

    Raises:
        ConfigurationError: A part by itself is wrong.
    """
    for group in ("gpu", "workload"):
        catalog.build(group, getattr(scenario, group))
    if not scenario.is_simulated:
        raise ConfigurationError("server: a live server is not simulated; choose server=simulated")
    if scenario.model is None:
        raise ConfigurationError("model: give one")
    model: ModelSpec = catalog.build("model", scenario.model)
    try:
        return {**describe_scenario(scenario), "problem": None}
    except ConfigurationError as error:
        absent = dict.fromkeys(("kv_cache_tokens", "capacity_tok_s", "rated_power_w"))
        gpu = catalog.build("gpu", scenario.gpu).name
        return {**describe_model(model), "gpu": gpu, **absent, "problem": str(error)}


def describe_model(model: ModelSpec) -> dict[str, Any]:
    """Returns a model's size, and how many of its layers are of each kind.

    Args:
        model: The model.
    """
    return {
        "model": model.name,
        "family": model.family,
        "total_params": model.total_params,
        "active_params": model.active_params,
        "encoder_params": model.encoder_params,
        "weight_precision": model.weight_precision,
        "expert_precision": model.expert_precision if model.experts else None,
        "weight_bytes": model.weight_bytes,
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "max_model_len": model.max_model_len,
        "hidden": model.hidden,
        "heads": model.heads,
        "kv_heads": 1 if model.latent_kv_rank else model.kv_heads,
        "vocab": model.vocab,
        "experts": model.experts,
        "top_k": model.top_k,
        "layers": model.layers,
        "layer_kinds": layer_kinds(model),
    }


def layer_kinds(model: ModelSpec) -> dict[str, int]:
    """Returns how many layers have attention, a state, experts and so on.

    A layer is counted once for what mixes its tokens, twice if that is two things, and once for
    its feed-forward part.

    Args:
        model: The model.
    """
    attending = model.attention_layers
    windowed = model.sliding_window_tokens > 0
    sliding = round(attending * model.sliding_window_fraction) if windowed else 0
    whole = "latent_attention" if model.latent_kv_rank else "full_attention"
    kinds = {
        whole: attending - sliding,
        "sliding_attention": sliding,
        "linear_or_state": model.linear_layers,
        "dense_feed_forward": model.layers - model.moe_layers - model.mlp_free_layers,
        "experts": model.moe_layers,
        "no_feed_forward": model.mlp_free_layers,
    }
    return {name: count for name, count in kinds.items() if count}


def _server(server: ServerSpec) -> Mapping[str, Any]:
    tokens = kv_cache_tokens(
        server.gpu, server.model, server.parallelism, server.server.gpu_memory_utilization
    )
    return {
        "gpu": server.gpu.name,
        "num_gpus": server.num_gpus,
        "tensor_parallel": server.server.tensor_parallel,
        "data_parallel": server.server.data_parallel,
        "weight_bytes_per_gpu": weight_bytes_per_gpu(server.model, server.parallelism),
        "kv_cache_tokens": tokens,
        "context_tokens": server.spec.max_model_len,
        "mean_prompt_tokens": server.workload.mean_prompt_tokens,
        "mean_output_tokens": server.workload.mean_output_tokens,
        "capacity_tok_s": server.capacity_tok_s,
        "rated_power_w": server.rated_power_w,
    }
