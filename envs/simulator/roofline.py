"""Work of one engine step, in seconds of memory and compute time at the highest clock.

Kernels come in groups (dense weights, output projection, routed experts, attention over the
cache, attention over prompts); each is bounded by memory or compute (roofline). The engine's
step model combines the two times of a group, see :mod:`envs.simulator.step_model`.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from envs.simulator.interconnect import communication
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from envs.simulator.step_layout import StepModel

SAMPLING_VOCABULARY = 150e3
"""Vocabulary size that :attr:`Calibration.sampling_s` refers to."""


@cache
def expected_maximum(ranks: int) -> float:
    """Returns the expected maximum of ``ranks`` independent standard normal draws."""
    if ranks < 2:
        return 0.0
    grid = np.linspace(-9.0, 9.0, 9001)
    below = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in grid])
    return float(np.trapezoid(1.0 - below**ranks - (1.0 - below) ** ranks, grid) / 2.0)


def activation_bytes(model: ModelSpec, parallelism: Parallelism) -> float:
    """Estimates the bytes of activations written and read per token on one GPU.

    About eight vectors of the residual width per layer, and per routed expert its input,
    its output and three vectors of the expert's width.
    """
    routed = model.moe_layers * model.top_k * (2 * model.hidden + 3 * model.expert_intermediate)
    fraction = parallelism.replicas_per_expert_group / parallelism.expert_shards
    return 4.0 * (8.0 * model.layers * model.hidden + routed * fraction)


def attention_flops(model: ModelSpec, parallelism: Parallelism, *, cached: bool) -> float:
    """Returns the FLOPs of one query token attending to one token, on one GPU.

    Latent attention works on the latent itself when it decodes (``cached``) and on expanded
    keys and values over prompts (arXiv:2405.04434 §2.1).
    """
    width = 2.0 * model.head_dim
    if model.latent_kv_rank and cached:
        width = 2.0 * model.latent_kv_rank + model.latent_rope_dim
    elif model.latent_kv_rank:
        width = model.latent_nope_dim + model.latent_rope_dim + model.latent_v_dim
    return 2.0 * model.attention_layers * model.heads * width / parallelism.tensor


def fill_work(
    c: StepModel,
    gpu: GPUSpec,
    model: ModelSpec,
    parallelism: Parallelism,
    k: Calibration,
) -> None:
    """Writes every time of a step at the highest clock into the record ``c``."""
    bandwidth = 1e12 * gpu.memory_bandwidth_tb_s
    tensor = parallelism.tensor
    fp8 = model.weight_precision.startswith("fp8")
    dense_bandwidth = bandwidth * k.bandwidth_efficiency * (k.fp8_bandwidth_factor if fp8 else 1.0)
    dense_flops = gpu.flops(model.weight_precision) * k.flops_efficiency
    dense_flops *= k.fp8_flops_factor if fp8 else 1.0
    bf16_flops = gpu.flops("bf16")

    per_step, per_token = communication(gpu, model, parallelism, k)
    c.host_s = k.step_s + per_step
    c.mixed_s = k.mixed_step_s
    c.sequence_s = k.sequence_s
    c.traffic_s = per_token
    c.launch_s = k.layer_s * model.layers + k.moe_layer_s * model.moe_layers
    c.block_s = k.block_fp8_layer_s * model.layers if model.block_scaled else 0.0
    c.sampling_s = k.sampling_s * model.vocab / SAMPLING_VOCABULARY
    c.launch_clock_fraction = k.launch_clock_fraction
    c.overlap = k.overlap

    c.dense_memory_s = model.dense_bytes / tensor / dense_bandwidth
    c.dense_compute_s = 2.0 * model.dense_params / tensor / dense_flops
    c.head_memory_s = model.head_bytes / tensor / (bandwidth * k.bandwidth_efficiency)
    c.head_compute_s = 2.0 * model.head_params / tensor / (bf16_flops * k.flops_efficiency)
    moved = k.activation_fraction * activation_bytes(model, parallelism)
    c.activation_s = moved / bandwidth
    kv_bandwidth = bandwidth * k.kv_bandwidth_efficiency
    attention = bf16_flops * k.attention_flops_efficiency
    c.kv_memory_s = kv_bytes_per_gpu(model, parallelism) / kv_bandwidth
    if model.latent_kv_rank:
        c.kv_compute_s = attention_flops(model, parallelism, cached=True) / attention
    c.state_s = state_bytes_per_gpu(model, parallelism) / kv_bandwidth
    c.pair_compute_s = attention_flops(model, parallelism, cached=False) / attention
    c.window_tokens = model.sliding_window_tokens
    c.window_fraction = model.sliding_window_fraction if model.sliding_window_tokens else 0.0
    if model.experts:
        _fill_experts(c, gpu, model, parallelism, k)


def _fill_experts(
    c: StepModel,
    gpu: GPUSpec,
    model: ModelSpec,
    parallelism: Parallelism,
    k: Calibration,
) -> None:
    fp8 = model.expert_precision.startswith("fp8")
    bandwidth = 1e12 * gpu.memory_bandwidth_tb_s * k.expert_bandwidth_efficiency
    bandwidth *= k.fp8_expert_bandwidth_factor if fp8 else 1.0
    flops = gpu.flops(model.expert_precision) * k.expert_flops_efficiency
    flops *= k.fp8_flops_factor if fp8 else 1.0
    split = expert_split(parallelism)
    c.experts = model.experts
    c.top_k = model.top_k
    c.meeting = parallelism.replicas_per_expert_group
    c.missed_by_one = 1.0 - model.top_k / model.experts
    c.token_density = model.top_k / (model.experts * k.popularity_spread)
    c.popularity_spread = k.popularity_spread
    c.experts_per_rank = model.experts / parallelism.expert
    c.rank_maximum = expected_maximum(parallelism.expert)
    c.ranks = parallelism.expert
    c.expert_memory_s = model.expert_bytes / model.experts / split / bandwidth
    weights = model.moe_layers * model.params_per_expert / split
    c.expert_compute_s = 2.0 * weights / flops


def expert_split(parallelism: Parallelism) -> float:
    """Returns over how many GPUs each expert is split."""
    return parallelism.expert_shards / parallelism.expert


def kv_bytes_per_gpu(model: ModelSpec, parallelism: Parallelism) -> float:
    """Returns the bytes of cache that one token takes on each GPU of its replica."""
    heads = 1 if model.latent_kv_rank else model.kv_heads
    return model.kv_bytes_per_token / min(parallelism.tensor, heads)


def state_bytes_per_gpu(model: ModelSpec, parallelism: Parallelism) -> float:
    """Returns the bytes of recurrent state that a sequence reads and writes per step."""
    return 2.0 * model.linear_layers * model.linear_state_bytes / parallelism.tensor
