"""What is believed about request lengths: a known shape, and a scale learnt from traffic."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.twin.plans import FloatArray, IntArray
from envs.workloads.base import Workload
from envs.workloads.external import External

_REQUESTS = 4096
_PRIOR_REQUESTS = 50.0
"""Requests of the expected length that count as seen before the first one."""
_MEMORY_REQUESTS = 1000.0
"""Requests after which what was seen before has faded."""
_EXTERNAL_VARIATION = 0.8
"""Standard deviation of unknown lengths over their mean: between chat and code in public traces
(Azure 2023: 0.6 to 1.2)."""


class LengthBelief:
    """Lengths in tokens of one kind, prompts or outputs.

    Args:
        tokens: A sample of the lengths that are expected.
        gain: How much is learnt from what is seen.
    """

    def __init__(self, tokens: NDArray[np.integer], gain: float = 1.0) -> None:
        self._gain = gain
        self._table = np.sort(tokens).astype(np.float64)
        self._sums = np.concatenate([[0.0], np.cumsum(self._table)])
        self._mean = float(self._table.mean())
        self._requests = _PRIOR_REQUESTS
        self._tokens = _PRIOR_REQUESTS * self._mean

    @property
    def scale(self) -> float:
        """How much longer requests are than was expected, as a factor."""
        return self._tokens / (self._requests * self._mean)

    @property
    def mean(self) -> float:
        """Mean length that is believed in now."""
        return self._mean * self.scale

    def note(self, requests: float, tokens: float) -> None:
        """Learns from requests that had so many tokens together."""
        requests, tokens = self._gain * requests, self._gain * tokens
        fade = max(0.0, 1.0 - requests / _MEMORY_REQUESTS)
        self._requests = self._requests * fade + requests
        self._tokens = max(self._tokens * fade + tokens, 1.0)

    def draw(self, quantiles: FloatArray) -> FloatArray:
        """Returns the lengths at quantiles from 0 to 1."""
        return self.longer_than(np.zeros_like(quantiles), quantiles)

    def longer_than(self, tokens: FloatArray, quantiles: FloatArray) -> FloatArray:
        """Returns lengths at quantiles of the distribution above lengths that were reached.

        Args:
            tokens: Tokens that requests are known to have, any shape.
            quantiles: Quantiles from 0 to 1 of the same shape.
        """
        table, scale = self._table, self.scale
        below = np.searchsorted(table, tokens / scale, side="right")
        index = below + quantiles * (len(table) - below)
        longer = table[np.minimum(index.astype(np.int64), len(table) - 1)] * scale
        return np.maximum(np.rint(longer), np.floor(tokens) + 1.0)

    def between(self, low: FloatArray, high: FloatArray) -> FloatArray:
        """Returns tokens that requests are expected to have between two lengths.

        Args:
            low: Lengths that are known to have been reached.
            high: Lengths up to which tokens count.
        """
        low, high = low / self.scale, high / self.scale
        alive = len(self._table) - np.searchsorted(self._table, low, side="right")
        tokens = self._up_to(high) - self._up_to(low)
        return self.scale * tokens / np.maximum(alive, 1)

    def _up_to(self, tokens: FloatArray) -> FloatArray:
        """Returns how many tokens all lengths of the table have together up to a length."""
        below = np.searchsorted(self._table, tokens, side="right")
        return np.asarray(self._sums[below] + (len(self._table) - below) * tokens)

    def survival(self, low: FloatArray, high: FloatArray) -> FloatArray:
        """Returns the probability that requests come from one length to another."""
        ends = len(self._table) - np.searchsorted(self._table, high / self.scale, side="right")
        alive = len(self._table) - np.searchsorted(self._table, low / self.scale, side="right")
        return np.where(alive > 0, ends / np.maximum(alive, 1), 1.0)

    def hazard(self, before: FloatArray, after: FloatArray) -> FloatArray:
        """Returns the probability of an end between two lengths, given that none came before."""
        table, scale = self._table, self.scale
        alive = len(table) - np.searchsorted(table, before / scale, side="right")
        ends = len(table) - np.searchsorted(table, after / scale, side="right")
        # Beyond the longest length known anything may end.
        return np.where(alive > 0, (alive - ends + 0.5) / (alive + 1.0), 1.0)


class ExpectedLengths(NamedTuple):
    """Lengths that are expected before the first request, as samples of them.

    Attributes:
        prompt_tokens: Prompts.
        output_tokens: Outputs.
    """

    prompt_tokens: IntArray
    output_tokens: IntArray


def expected_lengths(workload: Workload) -> ExpectedLengths:
    """Returns the lengths of requests that are expected.

    Args:
        workload: What the operator, or the load generator, says about the requests. Of the
            traffic of others only mean lengths are known.
    """
    rng = np.random.default_rng(0)
    if isinstance(workload, External):
        return _about_means(rng, workload)
    chunk = workload.endless().stream(rng, 1.0).take(_REQUESTS)
    return ExpectedLengths(chunk.prompt_tokens, chunk.output_tokens)


def _about_means(rng: np.random.Generator, workload: Workload) -> ExpectedLengths:
    """Returns log-normal lengths about the means that a workload expects."""
    variance = np.log1p(_EXTERNAL_VARIATION**2)

    def drawn(mean: float) -> IntArray:
        tokens = rng.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), _REQUESTS)
        return np.maximum(np.rint(tokens), 1).astype(np.int64)

    return ExpectedLengths(drawn(workload.mean_prompt_tokens), drawn(workload.mean_output_tokens))
