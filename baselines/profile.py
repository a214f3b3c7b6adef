"""The offline profile: throughput and power of a server at each configuration."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import NamedTuple

from envs.errors import ConfigurationError


class ProfileRow(NamedTuple):
    """One configuration, measured at saturation (arXiv:2605.21427 §3.2).

    Attributes:
        power_cap_w: Power cap per GPU in watts.
        max_num_seqs: Batch limit.
        tensor_parallel: Tensor-parallel size.
        expert_parallel: Expert-parallel size.
        data_parallel: Data-parallel size.
        throughput_tok_s: Output tokens per second.
        prompt_tok_s: Prompt tokens per second.
        power_w: Mean power of all GPUs together.
        tpot_s: Median time per output token.
        ttft_s: Median time to first token.
        running: Mean number of running requests.
        context_tokens: Mean cached tokens per running request.
        sm_clock_mhz: Mean SM clock.
    """

    power_cap_w: float
    max_num_seqs: int
    tensor_parallel: int
    expert_parallel: int
    data_parallel: int
    throughput_tok_s: float
    prompt_tok_s: float
    power_w: float
    tpot_s: float
    ttft_s: float
    running: float
    context_tokens: float
    sm_clock_mhz: float


@dataclass(frozen=True)
class Profile:
    """Rows of a sweep on one server with one workload.

    Attributes:
        rows: One row per configuration.
        tensor_parallel: Tensor-parallel size of the server to be controlled.
        expert_parallel: Its expert-parallel size.
        data_parallel: Its data-parallel size.
        key: Hash of all that the profile depends on, by which it is found.
    """

    rows: tuple[ProfileRow, ...]
    tensor_parallel: int
    expert_parallel: int
    data_parallel: int
    key: str

    @property
    def in_use(self) -> list[ProfileRow]:
        """The rows of the parallelism of the server to be controlled.

        Raises:
            ConfigurationError: There are none.
        """
        sizes = (self.tensor_parallel, self.expert_parallel, self.data_parallel)
        rows = [
            row
            for row in self.rows
            if (row.tensor_parallel, row.expert_parallel, row.data_parallel) == sizes
        ]
        if not rows:
            raise ConfigurationError(f"profile: no row with (TP, EP, DP) = {sizes}")
        return rows

    @property
    def sha256(self) -> str:
        """Hash of the measurements themselves: what is made from them is kept by it."""
        text = json.dumps([self.key, self.rows])
        return hashlib.sha256(text.encode()).hexdigest()
