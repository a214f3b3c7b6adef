"""How long requests are: distributions of prompt and output lengths.

A stream draws lengths from a table of equally likely values, the distribution's quantiles.
One random index and one look-up make a length, whatever the distribution, and the table's
mean is the mean of what is drawn, clipping and rounding included.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from omegaconf import MISSING
from typing_extensions import override

from envs.fields import Checked, Part, Range
from envs.quantities import Fraction, MeanTokens, Tokens, TokensOrNone

TABLE_BITS = 12
TABLE_SIZE = 1 << TABLE_BITS
_NORMAL = NormalDist()
"""Its quantiles are as exact as those of SciPy, which takes longer to import than all else."""


class LengthDistribution(Checked, ABC):
    """A distribution of lengths in tokens."""

    config_key: ClassVar[str] = "workload.lengths"

    @property
    def shared(self) -> int:
        """Tokens that are the same in all requests, at their beginning."""
        return 0

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

    mean_tokens: MeanTokens = MISSING
    std_tokens: MeanTokens = MISSING
    min_tokens: TokensOrNone = 1
    max_tokens: Tokens = 1_000_000
    shared_tokens: TokensOrNone = 0

    @property
    @override
    def shared(self) -> int:
        return self.shared_tokens

    def __post_init__(self) -> None:
        """Checks that the bounds are in order."""
        super().__post_init__()
        rule = f"be at most max_tokens ({self.max_tokens})"
        self.require(self.min_tokens <= self.max_tokens, "min_tokens", rule)

    def quantile(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the lengths in tokens that these fraction of requests do not exceed."""
        variance = math.log1p((self.std_tokens / self.mean_tokens) ** 2)
        location = math.log(self.mean_tokens) - variance / 2.0
        normal = np.fromiter(map(_NORMAL.inv_cdf, probability.tolist()), np.float64)
        tokens = np.exp(location + math.sqrt(variance) * normal)
        clipped: NDArray[np.float64] = np.clip(tokens, self.min_tokens, self.max_tokens)
        return clipped + self.shared_tokens


@dataclass(kw_only=True)
class Quantiles(LengthDistribution):
    """Measured quantiles, with straight lines between them.

    Attributes:
        probabilities: Ascending fractions of requests, from 0 to 1.
        tokens: Length that each fraction of requests does not exceed; a list of the same length.
    """

    probabilities: list[Fraction] = field(default_factory=list)
    tokens: list[Annotated[float, Range(least=0.0, most=1e7)]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Checks that the lists describe a distribution."""
        super().__post_init__()
        same = len(self.probabilities) == len(self.tokens) >= 2
        self.require(same, "tokens", "be as many as probabilities, 2 or more")
        ends = (self.probabilities[0], self.probabilities[-1])
        self.require(ends == (0.0, 1.0), "probabilities", "run from 0 to 1")
        ascending = bool(np.all(np.diff(self.probabilities) > 0))
        self.require(ascending, "probabilities", "be ascending")
        self.require(bool(np.all(np.diff(self.tokens) >= 0)), "tokens", "be ascending")

    def quantile(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the lengths in tokens that these fraction of requests do not exceed."""
        return np.interp(probability, self.probabilities, self.tokens)


@dataclass(kw_only=True)
class Fixed(LengthDistribution):
    """One length for all requests.

    Attributes:
        tokens: The length.
    """

    tokens: Tokens = MISSING

    def quantile(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the length, once for each fraction."""
        return np.full(len(probability), float(self.tokens))


@dataclass(kw_only=True)
class Lengths(Checked):
    """Prompt and output lengths of a workload, drawn independently of each other.

    Attributes:
        prompt: A :class:`LengthDistribution`, or a whole number for one fixed length.
        output: The same for outputs.
    """

    config_key: ClassVar[str] = "workload.lengths"

    prompt: Annotated[Any, Part("length")] = MISSING
    output: Annotated[Any, Part("length")] = MISSING

    def __post_init__(self) -> None:
        """Takes a whole number for one fixed length."""
        super().__post_init__()
        for key in ("prompt", "output"):
            value = getattr(self, key)
            if isinstance(value, int) and not isinstance(value, bool):
                setattr(self, key, Fixed(tokens=value))
            known = isinstance(getattr(self, key), LengthDistribution)
            self.require(known, key, "be a length distribution or a whole number of tokens")
