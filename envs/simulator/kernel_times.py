"""Time of one kernel from its shape, at the highest clock.

The same formulas price a step (:mod:`envs.simulator.roofline`) and are fitted to tables of
measured kernels, so each takes numbers or arrays. A kernel has a fixed time, a memory time and a
compute time, which join smoothly (:mod:`envs.simulator.joining`). What a shape costs beyond its
bytes and FLOPs is smooth, too: tiles that are not full, waves of tiles that do not fill the GPU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from envs.simulator.joining import Number, joined
from envs.simulator.models import WEIGHT_BYTES

ACTIVATION_BYTES = 2.0
"""Bytes per activation (bf16)."""


def bandwidth(gpu: GPUSpec) -> float:
    """Returns the peak memory bandwidth in bytes per second."""
    return 1e12 * gpu.memory_bandwidth_tb_s


# Matrix products: [tokens, depth] x [depth, width].


def product_fixed_s(k: Calibration, depth: Number) -> Number:
    """Returns the fixed time of a product: its start, and the walk along its depth."""
    return k.product_s + k.product_depth_s * depth


def product_bandwidth(k: Calibration, gpu: GPUSpec, precision: str) -> float:
    """Returns the bytes per second at which a product reads."""
    factor = k.fp8_bandwidth_factor if precision.startswith("fp8") else 1.0
    return bandwidth(gpu) * k.bandwidth_efficiency * factor


def product_rate(k: Calibration, gpu: GPUSpec, precision: str) -> float:
    """Returns the FLOP/s of a large product."""
    factor = k.fp8_flops_factor if precision.startswith("fp8") else 1.0
    return gpu.flops(precision) * k.flops_efficiency * factor


def product_flops(width: Number, depth: Number) -> Number:
    """Returns the FLOPs of a product per token."""
    return 2.0 * width * depth


def wasted_flops(k: Calibration, depth: Number) -> Number:
    """Returns the FLOPs that the last wave of tiles wastes, whatever the number of tokens."""
    return 2.0 * depth * k.wave_outputs


def product_bytes(width: Number, depth: Number) -> Number:
    """Returns the bytes of input and output of a product per token."""
    return ACTIVATION_BYTES * (width + depth)


def column_slowdown(k: Calibration, precision: str, width: Number) -> Number:
    """Returns by how much a product takes longer because its columns do not fill the GPU.

    Products in bf16 split their depth over the GPU instead.
    """
    columns = k.fp8_columns if precision.startswith("fp8") else 0.0
    return 1.0 + columns / width


def quantising_s(k: Calibration, gpu: GPUSpec, precision: str, depth: Number) -> Number:
    """Returns the time per token to quantise a product's input to FP8."""
    moved = k.fp8_activation_bytes if precision.startswith("fp8") else 0.0
    return moved / bandwidth(gpu) * depth


# Routed experts: a layer of gate, up and down products, one set of weights per expert.


def expert_bandwidth(k: Calibration, gpu: GPUSpec, precision: str) -> float:
    """Returns the bytes per second at which experts are read."""
    factor = k.fp8_expert_bandwidth_factor if precision.startswith("fp8") else 1.0
    return bandwidth(gpu) * k.expert_bandwidth_efficiency * factor


def expert_rate(k: Calibration, gpu: GPUSpec, precision: str) -> float:
    """Returns the FLOP/s of experts with many tokens each."""
    factor = k.fp8_expert_flops_factor if precision.startswith("fp8") else 1.0
    return gpu.flops(precision) * k.expert_flops_efficiency * factor


def expert_weights(hidden: Number, width: Number, matrices: int = 3) -> Number:
    """Returns the weights of one expert of one layer, ``width`` of its columns on this GPU."""
    return matrices * hidden * width


def experts_s(
    k: Calibration,
    gpu: GPUSpec,
    precision: str,
    weights: NDArray[np.float64],
    touched: NDArray[np.float64],
    routed: NDArray[np.float64],
    tokens: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Returns the time of the routed experts of one layer.

    Args:
        k: Coefficients.
        gpu: GPU type.
        precision: How the weights are stored.
        weights: Weights of one expert.
        touched: Experts that at least one token visits.
        routed: Visits in all.
        tokens: Tokens.
    """
    memory = touched * weights * WEIGHT_BYTES[precision] / expert_bandwidth(k, gpu, precision)
    rows = routed + k.expert_padding_tokens * touched
    compute = 2.0 * weights * rows / expert_rate(k, gpu, precision)
    return k.moe_layer_s + k.moe_token_s * tokens + joined(memory, compute, k.expert_overlap)


# Attention of one layer, ``heads`` of them on this GPU.


def decode_fixed_s(k: Calibration, length: Number) -> Number:
    """Returns the fixed time of decode attention over contexts of a mean ``length``."""
    return k.attention_layer_s + k.attention_length_s * length


def decode_rows_s(k: Calibration, heads: Number, head_dim: Number) -> Number:
    """Returns the time of decode attention per sequence, whatever its length."""
    return k.attention_row_s * heads * head_dim


def kv_bandwidth(k: Calibration, gpu: GPUSpec) -> float:
    """Returns the bytes per second at which cached keys and values are read."""
    return bandwidth(gpu) * k.kv_bandwidth_efficiency


def prompt_rate(k: Calibration, gpu: GPUSpec) -> float:
    """Returns the FLOP/s of attention over long prompts."""
    return gpu.flops("bf16") * k.attention_flops_efficiency


def prompt_flops(k: Calibration, width: Number) -> Number:
    """Returns the FLOPs of one head per pair of tokens; narrow heads fill the units badly.

    Args:
        k: Coefficients.
        width: Width of a key and of a value together.
    """
    return 2.0 * (width + 2.0 * k.attention_width)
