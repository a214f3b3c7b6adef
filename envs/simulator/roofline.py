"""Work of one engine step, in seconds of memory and compute time at the highest clock.

Kernels come in groups (dense weights, output projection, routed experts, attention over the
cache, attention over prompts); each is bounded by memory or compute (roofline). The engine's
step model combines the two times of a group, see :mod:`envs.simulator.step_model`.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from envs.simulator import kernel_times as times
from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from envs.simulator.interconnect import communication
from envs.simulator.models import WEIGHT_BYTES, ModelSpec
from envs.simulator.parallelism import Parallelism
from envs.simulator.products import dense_products, head_product
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
    """Returns the FLOPs of one query token attending to one token, on one GPU."""
    width = attention_width(model, cached=cached)
    return 2.0 * model.attention_layers * model.heads * width / parallelism.tensor


def attention_width(model: ModelSpec, *, cached: bool) -> float:
    """Returns the width of a head's key and value together.

    Latent attention works on the latent itself when it decodes (``cached``) and on expanded
    keys and values over prompts (arXiv:2405.04434 §2.1).
    """
    if not model.latent_kv_rank:
        return float(model.head_dim + model.value_dim)
    if cached:
        return 2.0 * model.latent_kv_rank + model.latent_rope_dim
    return float(model.latent_nope_dim + model.latent_rope_dim + model.latent_v_dim)


def fill_work(
    c: StepModel,
    gpu: GPUSpec,
    model: ModelSpec,
    parallelism: Parallelism,
    k: Calibration,
) -> None:
    """Writes every time of a step at the highest clock into the record ``c``."""
    per_step, per_token = communication(gpu, model, parallelism, k)
    c.host_s = k.step_s
    if model.chunked_attention:
        c.host_s += k.chunked_layer_s * model.attention_layers
    c.mixed_s = k.mixed_step_s
    c.sequence_s = k.sequence_s
    c.host_overlap = k.host_overlap
    c.links_s = per_step
    c.traffic_s = per_token
    c.launch_s = k.layer_s * model.layers
    c.eager_s = k.eager_layer_s * model.layers + k.eager_moe_layer_s * model.moe_layers
    c.graph_tokens = k.graph_tokens
    c.launch_clock_fraction = k.launch_clock_fraction
    c.overlap = k.overlap
    c.kernel_s = k.block_fp8_layer_s * model.layers if model.block_scaled else 0.0
    c.sampling_s = k.sampling_s * model.vocab / SAMPLING_VOCABULARY
    c.sampling_rows = k.sampling_rows
    moved = k.activation_fraction * activation_bytes(model, parallelism)
    c.activation_s = moved / times.bandwidth(gpu)
    _fill_products(c, gpu, model, parallelism, k)
    _fill_attention(c, gpu, model, parallelism, k)
    if model.experts:
        _fill_experts(c, gpu, model, parallelism, k)


def _fill_products(
    c: StepModel, gpu: GPUSpec, model: ModelSpec, parallelism: Parallelism, k: Calibration
) -> None:
    """Matrix products: those of the layers, which every token passes, and the output's."""
    precision = model.weight_precision
    read = times.product_bandwidth(k, gpu, precision)
    rate = times.product_rate(k, gpu, precision)
    for product in dense_products(model, parallelism.tensor):
        count, width, depth = product.count, product.width, product.depth
        longer = count * times.column_slowdown(k, precision, width)
        c.kernel_s += count * times.product_fixed_s(k, depth)
        c.dense_memory_s += longer * width * depth * WEIGHT_BYTES[precision] / read
        c.dense_memory_token_s += longer * times.product_bytes(width, depth) / read
        c.dense_compute_s += longer * times.wasted_flops(k, depth) / rate
        c.dense_compute_token_s += longer * times.product_flops(width, depth) / rate
        c.activation_s += count * times.quantising_s(k, gpu, precision, depth)
    unconverted = model.unconverted_params / parallelism.tensor
    c.dense_memory_s += unconverted * (2.0 - WEIGHT_BYTES[precision]) / read
    head = head_product(model, parallelism.tensor)
    read = times.product_bandwidth(k, gpu, "bf16")
    rate = times.product_rate(k, gpu, "bf16")
    c.kernel_s += times.product_fixed_s(k, head.depth)
    c.head_memory_s = model.head_bytes / parallelism.tensor / read
    c.head_compute_s = times.wasted_flops(k, head.depth) / rate
    c.head_compute_row_s = times.product_flops(head.width, head.depth) / rate


def _fill_attention(
    c: StepModel, gpu: GPUSpec, model: ModelSpec, parallelism: Parallelism, k: Calibration
) -> None:
    layers, heads = model.attention_layers, model.heads / parallelism.tensor
    c.kernel_s += layers * times.decode_fixed_s(k, 0.0)
    c.length_s = layers * k.attention_length_s
    c.row_s = layers * times.decode_rows_s(k, heads, model.head_dim)
    kv_bandwidth = times.kv_bandwidth(k, gpu)
    rate = times.prompt_rate(k, gpu)
    c.kv_memory_s = kv_bytes_per_gpu(model, parallelism) / kv_bandwidth
    if model.latent_kv_rank:
        c.kv_compute_s = attention_flops(model, parallelism, cached=True) / rate
    c.state_s = state_bytes_per_gpu(model, parallelism) / kv_bandwidth
    one_head = layers * times.prompt_flops(k, attention_width(model, cached=False)) / rate
    c.pair_compute_s = one_head * heads
    c.start_compute_s = one_head * heads * k.attention_start_tokens
    c.wave_compute_s = math.sqrt(2.0) * one_head * k.attention_wave_rows
    c.window_tokens = model.sliding_window_tokens
    c.window_fraction = model.sliding_window_fraction if model.sliding_window_tokens else 0.0


def _fill_experts(
    c: StepModel, gpu: GPUSpec, model: ModelSpec, parallelism: Parallelism, k: Calibration
) -> None:
    precision, layers = model.expert_precision, model.moe_layers
    width = model.expert_intermediate / expert_split(parallelism)
    weights = times.expert_weights(float(model.hidden), width, model.expert_matrices)
    rate = times.expert_rate(k, gpu, precision)
    c.experts = model.experts
    c.top_k = model.top_k
    c.meeting = parallelism.replicas_per_expert_group
    c.missed_by_one = 1.0 - model.top_k / model.experts
    c.token_density = model.top_k / (model.experts * k.popularity_spread)
    c.popularity_spread = k.popularity_spread
    c.experts_per_rank = model.experts / parallelism.expert
    c.rank_maximum = expected_maximum(parallelism.expert)
    c.ranks = parallelism.expert
    c.expert_overlap = k.expert_overlap
    c.kernel_s += layers * k.moe_layer_s
    c.moe_token_s = layers * k.moe_token_s
    read = times.expert_bandwidth(k, gpu, precision)
    c.expert_memory_s = layers * weights * WEIGHT_BYTES[precision] / read
    c.expert_compute_s = layers * 2.0 * weights / rate
    c.expert_padding_s = c.expert_compute_s * k.expert_padding_tokens


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
