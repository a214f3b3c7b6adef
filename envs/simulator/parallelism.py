"""How a model is spread over GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from envs.errors import ConfigurationError


@dataclass(frozen=True)
class Parallelism:
    """Static spread of a model over GPUs (arXiv:2605.21427 Table 1).

    Attributes:
        tensor: Tensor-parallel ranks of one replica.
        expert: Ranks that each hold whole experts; 1 splits every expert over the
            tensor-parallel ranks instead.
        data: Data-parallel replicas, each with sequences of its own.
        gpus_per_node: GPUs that share the fast link.
    """

    tensor: int = 1
    expert: int = 1
    data: int = 1
    gpus_per_node: int = 4

    def __post_init__(self) -> None:
        for key in ("tensor", "expert", "data", "gpus_per_node"):
            if getattr(self, key) < 1:
                name = key if key == "gpus_per_node" else f"{key}_parallel"
                raise ConfigurationError(f"server.{name}: must be >= 1, got {getattr(self, key)}")
        if self.expert > self.num_gpus:
            raise ConfigurationError(
                f"server.expert_parallel: {self.expert} is more than the {self.num_gpus} GPUs of "
                "server.tensor_parallel x server.data_parallel"
            )
        if self.expert > self.tensor and self.expert % self.tensor:
            raise ConfigurationError(
                f"server.expert_parallel: {self.expert} must be a multiple of "
                f"server.tensor_parallel ({self.tensor})"
            )

    @property
    def num_gpus(self) -> int:
        """GPUs in all."""
        return self.tensor * self.data

    @property
    def expert_shards(self) -> int:
        """GPUs that together hold every expert once."""
        return max(self.tensor, self.expert)

    @property
    def replicas_per_expert_group(self) -> float:
        """Data-parallel replicas whose tokens meet at the same experts."""
        return self.expert_shards / self.tensor
