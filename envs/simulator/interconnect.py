"""Time that a step spends on links between GPUs; the SM clock has no say in it.

Tensor parallelism adds two all-reduces per layer; experts spread over data-parallel replicas
add a dispatch and a combine per mixture-of-experts layer. Each costs a latency and a volume.
"""

from __future__ import annotations

import math

from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from envs.simulator.kernel_times import ACTIVATION_BYTES
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism


def communication(
    gpu: GPUSpec, model: ModelSpec, parallelism: Parallelism, calibration: Calibration
) -> tuple[float, float]:
    """Returns the communication time of a step as ``(seconds, seconds per token)``.

    Args:
        gpu: GPU type.
        model: Model.
        parallelism: How the model is spread over GPUs.
        calibration: Coefficients of the GPU type.
    """
    per_step = 0.0
    per_token = 0.0
    message = ACTIVATION_BYTES * model.hidden
    if parallelism.tensor > 1:
        latency, second_per_byte = _link(gpu, parallelism, calibration, parallelism.tensor)
        collectives = 2 * model.layers
        per_step += collectives * latency
        per_token += collectives * message * second_per_byte * _volume(gpu, parallelism.tensor)
    shards = parallelism.expert_shards
    if parallelism.replicas_per_expert_group > 1 and model.experts:
        latency, second_per_byte = _link(gpu, parallelism, calibration, shards)
        collectives = 2 * model.moe_layers
        sent = message * model.top_k * (shards - 1) / shards / parallelism.tensor
        per_step += collectives * latency
        per_token += collectives * sent * second_per_byte
    return per_step, per_token


def all_reduce_s(gpu: GPUSpec, calibration: Calibration, ranks: int, sent: float) -> float:
    """Returns the time in which GPUs of one node add up ``sent`` bytes of each."""
    node = Parallelism(tensor=ranks, gpus_per_node=ranks)
    latency, second_per_byte = _link(gpu, node, calibration, ranks)
    return latency + sent * second_per_byte * _volume(gpu, ranks)


def _volume(gpu: GPUSpec, ranks: int) -> float:
    """Times that an all-reduce sends the message of each rank.

    A ring sends it ``2 (n - 1) / n`` times; a switch that reduces on its own, once.
    """
    return 1.0 if gpu.switch_reduces else 2.0 * (ranks - 1) / ranks


def _link(
    gpu: GPUSpec, parallelism: Parallelism, calibration: Calibration, ranks: int
) -> tuple[float, float]:
    """Returns latency and seconds per byte of a collective over ``ranks`` GPUs."""
    latency = calibration.all_reduce_s
    nodes = ranks / parallelism.gpus_per_node
    if nodes <= 1.0:
        return latency, 1.0 / (1e9 * gpu.link_bandwidth_gb_s * calibration.link_efficiency)
    latency += calibration.network_latency_s * (1.0 + math.log2(nodes))
    return latency, 1.0 / (1e9 * gpu.network_bandwidth_gb_s * calibration.network_efficiency)
