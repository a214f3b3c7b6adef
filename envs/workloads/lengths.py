"""How long requests are: distributions of prompt and output lengths.

A stream draws lengths from a table of equally likely values, the distribution's quantiles.
One random index and one look-up make a length, whatever the distribution, and the table's
mean is the mean of what is drawn, clipping and rounding included.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import MISSING

from envs.errors import ConfigurationError
from envs.fields import Part

TABLE_BITS = 12
TABLE_SIZE = 1 << TABLE_BITS


class LengthDistribution(ABC):
    """A distribution of lengths in tokens."""

    @abstractmethod
    def quantile(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the lengths in tokens that these fraction of requests do not exceed.

        Args:
            probability: Ascending fractions between 0 and 1, shape ``(n,)``.
        """

    def table(self, scale: float = 1.0) -> NDArray[np.int64]:
        """Returns ``TABLE_SIZE`` equally likely lengths: whole tokens, at least 1.

        Args:
            scale: Factor on every length.
        """
        middles = (np.arange(TABLE_SIZE) + 0.5) / TABLE_SIZE
        tokens = np.maximum(np.rint(self.quantile(middles) * scale), 1.0)
        return tokens.astype(np.int64)


@dataclass(kw_only=True)
class LogNormal(LengthDistribution):
    """A clipped log-normal length after a prefix that all requests share.

    Attributes:
        mean_tokens: Mean of the variable part, before clipping.
        std_tokens: Standard deviation of the variable part, before clipping.
        min_tokens: Shortest variable part.
        max_tokens: Longest variable part.
        shared_tokens: Tokens of the shared prefix, such as few-shot examples.
    """

    mean_tokens: float = MISSING
    std_tokens: float = MISSING
    min_tokens: int = 1
    max_tokens: int = 1_000_000
    shared_tokens: int = 0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: A value is out of range.
        """
        for key in ("mean_tokens", "std_tokens"):
            value = getattr(self, key)
            if isinstance(value, str) or not (math.isfinite(value) and value > 0):
                raise _error(f"{key} must be a positive number, got {value}")
        if self.shared_tokens < 0:
            raise _error(f"shared_tokens must not be negative, got {self.shared_tokens}")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise _error(
                f"min_tokens must lie between 0 and max_tokens ({self.max_tokens}), "
                f"got {self.min_tokens}"
            )

    def quantile(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the lengths in tokens that these fraction of requests do not exceed."""
        from scipy.special import ndtri  # here, so that importing the package stays quick

        variance = math.log1p((self.std_tokens / self.mean_tokens) ** 2)
        location = math.log(self.mean_tokens) - variance / 2.0
        tokens = np.exp(location + math.sqrt(variance) * ndtri(probability))
        clipped: NDArray[np.float64] = np.clip(tokens, self.min_tokens, self.max_tokens)
        return clipped + self.shared_tokens


@dataclass(kw_only=True)
class Quantiles(LengthDistribution):
    """Measured quantiles, with straight lines between them.

    Attributes:
        probabilities: Ascending fractions of requests, from 0 to 1.
        tokens: Length that each fraction of requests does not exceed; a list of the same length.
    """

    probabilities: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: The lists do not describe a distribution.
        """
        if len(self.probabilities) != len(self.tokens) or len(self.tokens) < 2:
            raise _error("probabilities and tokens must be lists of one length, 2 or more")
        if self.probabilities[0] != 0.0 or self.probabilities[-1] != 1.0:
            raise _error("probabilities must run from 0 to 1")
        if any(np.diff(self.probabilities) <= 0) or any(np.diff(self.tokens) < 0):
            raise _error("probabilities and tokens must be ascending")
        if self.tokens[0] < 0 or not math.isfinite(self.tokens[-1]):
            raise _error("tokens must be finite and not negative")

    def quantile(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the lengths in tokens that these fraction of requests do not exceed."""
        return np.interp(probability, self.probabilities, self.tokens)


@dataclass(kw_only=True)
class Fixed(LengthDistribution):
    """One length for all requests.

    Attributes:
        tokens: The length.
    """

    tokens: int = MISSING

    def __post_init__(self) -> None:
        """Checks the value.

        Raises:
            ConfigurationError: The length is not at least 1.
        """
        if isinstance(self.tokens, str) or self.tokens < 1:
            raise _error(f"tokens must be at least 1, got {self.tokens}")

    def quantile(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the length, once for each fraction."""
        return np.full(len(probability), float(self.tokens))


@dataclass(kw_only=True)
class Lengths:
    """Prompt and output lengths of a workload, drawn independently of each other.

    Attributes:
        prompt: A :class:`LengthDistribution`, or a whole number for one fixed length.
        output: The same for outputs.
    """

    prompt: Annotated[Any, Part("length")] = MISSING
    output: Annotated[Any, Part("length")] = MISSING

    def __post_init__(self) -> None:
        """Checks the parts.

        Raises:
            ConfigurationError: A part is neither a distribution nor a number.
        """
        for key in ("prompt", "output"):
            value = getattr(self, key)
            if isinstance(value, int) and not isinstance(value, bool):
                setattr(self, key, Fixed(tokens=value))
            elif not isinstance(value, LengthDistribution):
                raise ConfigurationError(
                    f"workload.lengths.{key}: must be a length distribution or a whole number "
                    f"of tokens, got {value!r}"
                )


def _error(problem: str) -> ConfigurationError:
    return ConfigurationError(f"workload.lengths: {problem}")
