"""Traffic of other clients: a live server is observed and no request is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from envs.errors import ConfigurationError
from envs.quantities import MeanTokens
from envs.workloads.base import Workload


@dataclass(kw_only=True)
class External(Workload):
    """The traffic of a live server's own users; the expected lengths only scale targets.

    Attributes:
        expected_prompt_tokens: Mean prompt length to expect.
        expected_output_tokens: Mean output length to expect.
    """

    expected_prompt_tokens: MeanTokens = 512.0
    expected_output_tokens: MeanTokens = 256.0

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean prompt length that is expected."""
        return self.expected_prompt_tokens * self.prompt_scale

    @property
    def mean_output_tokens(self) -> float:
        """Mean output length that is expected."""
        return self.expected_output_tokens * self.output_scale

    def stream(self, rng: np.random.Generator, rate_per_s: float) -> NoReturn:
        """Raises an error: this workload sends no requests, so that it has no stream.

        Raises:
            ConfigurationError: Always; a simulator has no users of its own.
        """
        raise ConfigurationError(
            "workload=external observes the users of a live server and needs server=vllm; "
            "choose another workload to send requests"
        )
