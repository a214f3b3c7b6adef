"""How many tokens of keys and values fit beside the weights."""

from __future__ import annotations

from envs.errors import InfeasibleModelError
from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from envs.simulator.roofline import kv_bytes_per_gpu

__all__ = ["RUNTIME_BYTES", "kv_bytes_per_gpu", "kv_cache_tokens", "weight_bytes_per_gpu"]

RUNTIME_BYTES = 1.5e9
"""Memory that CUDA graphs, NCCL buffers and activations of a step take on a GPU."""


def weight_bytes_per_gpu(model: ModelSpec, parallelism: Parallelism) -> float:
    """Returns the bytes of weights that one GPU holds."""
    experts = model.expert_bytes / parallelism.expert_shards
    return (model.weight_bytes - model.expert_bytes) / parallelism.tensor + experts


def kv_cache_tokens(
    gpu: GPUSpec,
    model: ModelSpec,
    parallelism: Parallelism,
    gpu_memory_utilization: float = 0.9,
) -> int:
    """Returns how many tokens the cache of one data-parallel replica holds.

    Args:
        gpu: GPU type.
        model: Model.
        parallelism: How the model is spread over GPUs.
        gpu_memory_utilization: Fraction of the memory that the server may use (vLLM's name).

    Raises:
        InfeasibleModelError: The weights leave no room for one sequence of the model's
            context length.
    """
    weights = weight_bytes_per_gpu(model, parallelism)
    per_token = kv_bytes_per_gpu(model, parallelism)
    available = 1e9 * gpu.memory_gb * gpu_memory_utilization - RUNTIME_BYTES
    tokens = int((available - weights) / per_token)
    if tokens < 1:
        raise InfeasibleModelError(
            f"model {model.name!r} does not fit on {gpu.name!r}: each of "
            f"{parallelism.tensor} GPUs needs {weights / 1e9:.1f} GB for weights and has "
            f"{available / 1e9:.1f} GB; raise server.tensor_parallel or choose a GPU with "
            "more memory (gpu=...)"
        )
    return tokens
