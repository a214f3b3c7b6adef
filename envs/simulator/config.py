"""Configuration of a simulated server: parallelism, limits and the node around the GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from envs.fields import Checked, Range
from envs.quantities import Batch, Count, GPUs, PositiveFraction, Tokens, WattsOrNone
from envs.simulator.gpus import GPUSpec


@dataclass(kw_only=True)
class SimulatedServerConfig(Checked):
    """How the simulated vLLM server is started. Names are vLLM's where vLLM has them.

    Attributes:
        tensor_parallel: GPUs that share each layer.
        expert_parallel: Ranks that hold whole experts; 1 splits every expert instead.
        data_parallel: Replicas, each with a scheduler, a batch and a KV cache of its own.
        num_gpus: GPUs in all; ``None`` takes ``tensor_parallel * data_parallel``.
        gpus_per_node: GPUs that share a node's fast link and its overhead power.
        max_num_seqs: Highest batch limit, per replica.
        max_waiting: Requests that may wait for a place, in all; one that comes when so many wait
            is rejected, as the gateways in front of servers do (vLLM itself keeps them all).
        max_num_batched_tokens: Token budget of one engine step; ``None`` takes vLLM's default
            for an online server on the GPU, see :meth:`token_budget`.
        max_model_len: Longest context; ``None`` takes the model's, or what the KV cache holds.
        gpu_memory_utilization: Fraction of GPU memory that the server may use.
        block_size: Tokens per KV-cache block.
        prefix_caching: Whether full KV blocks are found again by requests that begin alike (vLLM's
            ``--enable-prefix-caching``); ``None``: where a recording says which prompts do.
        engine_version: Version of the engine whose host times are simulated, as in ``vllm-0.26``;
            empty takes the one that the calibration was fitted to.
        system_alpha: Node power per watt of GPU power (arXiv:2605.21427 §3.1, about 1.05).
        system_beta_w: Node power without GPUs in watts, per node (same source, 340-350 W).
        exact_steps: Takes every engine step by itself; the reference for the fast path.
    """

    config_key: ClassVar[str] = "server"

    tensor_parallel: GPUs = 4
    expert_parallel: GPUs = 1
    data_parallel: GPUs = 1
    num_gpus: GPUs | None = None
    gpus_per_node: GPUs = 4
    max_num_seqs: Batch = 64
    max_waiting: Count = 65_536
    max_num_batched_tokens: Tokens | None = None
    max_model_len: Annotated[int, Range(least=2, most=10_000_000)] | None = None
    gpu_memory_utilization: PositiveFraction = 0.9
    block_size: Annotated[int, Range(least=1, most=65_536)] = 16
    prefix_caching: bool | None = None
    engine_version: str = ""
    system_alpha: Annotated[float, Range(least=0.0, most=100.0)] = 1.05
    system_beta_w: WattsOrNone = 345.0
    exact_steps: bool = False

    is_simulated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Fills in the number of GPUs, and checks what belongs together.

        Raises:
            ConfigurationError: A value is out of range or two contradict each other.
        """
        super().__post_init__()
        gpus = self.tensor_parallel * self.data_parallel
        if self.num_gpus is None:
            self.num_gpus = gpus
        sizes = f"{self.tensor_parallel} x {self.data_parallel}"
        rule = f"be server.tensor_parallel x server.data_parallel = {sizes}"
        self.require(self.num_gpus == gpus, "num_gpus", rule)
        budget = self.max_num_batched_tokens
        rule = f"be at least server.max_num_seqs ({self.max_num_seqs}), one for each sequence"
        self.require(budget is None or budget >= self.max_num_seqs, "max_num_batched_tokens", rule)

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
