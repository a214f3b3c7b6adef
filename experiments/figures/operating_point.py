"""A server with its knobs: the points at which full servers are measured."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from envs import catalog
from envs.errors import ConfigurationError, InfeasibleModelError
from envs.simulator.server_spec import ServerSpec

_BACKLOG = 2
"""Requests in the system for each that a replica can run at once."""


class OperatingPoint(NamedTuple):
    """A server with its knobs.

    Attributes:
        model: Name of the model.
        cap_w: Power cap per GPU.
        batch: Batch limit of a replica.
        tensor: Tensor-parallel size.
        expert: Expert-parallel size.
        data: Data-parallel replicas.
        lengths: Name of the request lengths.
        gpu: Name of the GPU type.
    """

    model: str
    cap_w: float
    batch: int
    tensor: int = 4
    expert: int = 1
    data: int = 1
    lengths: str = "gsm8k"
    gpu: str = "a100_sxm4_80gb"


def is_possible(point: OperatingPoint) -> bool:
    """Returns whether the weights and a KV cache fit into the GPUs of a point."""
    try:
        return bool(server_spec_of(point).spec.kv_blocks)
    except (InfeasibleModelError, ConfigurationError):
        return False


def server_spec_of(point: OperatingPoint) -> ServerSpec:
    """Returns the server of a point, kept full by twice as many requests as it can run."""
    return _server_spec(
        point.model, point.tensor, point.expert, point.data, point.lengths, point.gpu, point.batch
    )


@cache
def _server_spec(
    model: str, tensor: int, expert: int, data: int, lengths: str, gpu: str, batch: int
) -> ServerSpec:
    # Beyond 64 the server is started with a higher limit; else the knob alone sets the batch.
    largest_batch = max(64, batch)
    server = {
        "base": "simulated",
        "tensor_parallel": tensor,
        "expert_parallel": expert,
        "data_parallel": data,
        "max_num_seqs": largest_batch,
    }
    workload = {
        "base": "closed_loop",
        "lengths": lengths,
        "concurrency": _BACKLOG * largest_batch * data,
    }
    return ServerSpec(
        gpu=catalog.build("gpu", gpu),
        model=catalog.build("model", model),
        server=catalog.build("server", server),
        workload=catalog.build("workload", workload),
    )
