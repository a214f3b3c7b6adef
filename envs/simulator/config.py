"""Configuration of a simulated server: parallelism, limits and the node around the GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from envs.errors import ConfigurationError
from envs.simulator.gpus import GPUSpec


@dataclass(kw_only=True)
class SimulatedServerConfig:
    """How the simulated vLLM server is started. Names are vLLM's where vLLM has them.

    Attributes:
        tensor_parallel: GPUs that share each layer.
        expert_parallel: Ranks that hold whole experts; 1 splits every expert instead.
        data_parallel: Replicas, each with its own batch.
        num_gpus: GPUs in all; ``None`` takes ``tensor_parallel * data_parallel``.
        gpus_per_node: GPUs that share a node's fast link and its overhead power.
        max_num_seqs: Highest batch limit, per replica.
        max_num_batched_tokens: Token budget of one engine step; ``None`` takes vLLM's default
            for an online server on the GPU, see :meth:`token_budget`.
        max_model_len: Longest context; ``None`` takes the model's, or what the KV cache holds.
        gpu_memory_utilization: Fraction of GPU memory that the server may use.
        block_size: Tokens per KV-cache block.
        system_alpha: Node power per watt of GPU power (arXiv:2605.21427 §3.1, about 1.05).
        system_beta_w: Node power without GPUs in watts, per node (same source, 340-350 W).
        exact_steps: Takes every engine step by itself; the reference for the fast path.
    """

    tensor_parallel: int = 4
    expert_parallel: int = 1
    data_parallel: int = 1
    num_gpus: int | None = None
    gpus_per_node: int = 4
    max_num_seqs: int = 64
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.9
    block_size: int = 16
    system_alpha: float = 1.05
    system_beta_w: float = 345.0
    exact_steps: bool = False

    is_simulated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: A value is out of range or two contradict each other.
        """
        for key in (
            "tensor_parallel", "expert_parallel", "data_parallel", "gpus_per_node",
            "max_num_seqs", "block_size",
        ):  # fmt: skip
            if getattr(self, key) < 1:
                raise ConfigurationError(f"server.{key}: must be >= 1, got {getattr(self, key)}")
        gpus = self.tensor_parallel * self.data_parallel
        if self.num_gpus is None:
            self.num_gpus = gpus
        if self.num_gpus != gpus:
            raise ConfigurationError(
                f"server.num_gpus: {self.num_gpus} is not server.tensor_parallel x "
                f"server.data_parallel = {self.tensor_parallel} x {self.data_parallel}"
            )
        budget = self.max_num_batched_tokens
        if budget is not None and budget < self.max_num_seqs:
            raise ConfigurationError(
                f"server.max_num_batched_tokens: {budget} is below "
                f"server.max_num_seqs ({self.max_num_seqs}); each running sequence needs one"
            )
        if not 0.0 < self.gpu_memory_utilization <= 1.0:
            raise ConfigurationError(
                "server.gpu_memory_utilization: must be in (0, 1], "
                f"got {self.gpu_memory_utilization}"
            )
        if self.max_model_len is not None and self.max_model_len < 2:
            raise ConfigurationError(
                f"server.max_model_len: must be >= 2, got {self.max_model_len}"
            )
        if self.system_alpha < 0 or self.system_beta_w < 0:
            raise ConfigurationError("server.system_alpha, server.system_beta_w: must be >= 0")

    def token_budget(self, gpu: GPUSpec) -> int:
        """Returns the token budget of one engine step.

        vLLM 0.32 gives an online server 2,048 tokens on an A100 and on GPUs below 70 GiB,
        8,192 on larger ones and 16,384 from 160 GiB on (``EngineArgs``).
        """
        if self.max_num_batched_tokens is not None:
            return self.max_num_batched_tokens
        gib = gpu.memory_gb * 1e9 / 2**30
        default = 2048
        if gib >= 160:
            default = 16_384
        elif gib >= 70 and "a100" not in gpu.device_name.lower():
            default = 8192
        return max(default, self.max_num_seqs)

    @property
    def num_nodes(self) -> int:
        """Nodes that the GPUs fill."""
        return -(-int(self.num_gpus or 1) // self.gpus_per_node)
