"""Prices of a violation: one for each limit, times a factor of each server's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agents.asked import Asked
from experiments.imitation.config import ImitateConfig

FloatArray = NDArray[np.float64]


class LimitPrices:
    """Follows what servers violate under the limits that they are asked for.

    Args:
        config: How fast prices and factors move, and how far.
        asked: The limits, and their prices at the start.
        servers: How many servers there are.

    Attributes:
        prices: Price under each limit, shape ``(limits,)``.
        factors: Factor of each server, shape ``(servers,)``.
    """

    def __init__(self, config: ImitateConfig, asked: Asked, servers: int) -> None:
        self._config, self._limits = config, np.array(asked.limits)
        self.prices = self._bounded(np.array(asked.prices))
        self.factors: FloatArray = np.ones(servers)

    def move(
        self, rates: Sequence[float | None], level: NDArray[np.int64], violated: FloatArray
    ) -> None:
        """Moves each limit's price by how far its servers were from it, and each server's factor.

        Args:
            rates: Rate of violations under each limit; ``None`` where none was evaluated.
            level: Which limit each server was asked for.
            violated: Whether each was in violation, shape ``(intervals, servers)``; NaN where
                that is not evaluated.
        """
        config = self._config
        ratio = [1.0 if r is None else r / own for r, own in zip(rates, self._limits, strict=True)]
        self.prices = self._bounded(self.prices * np.exp(config.price_step * _excess(ratio)))
        counted = ~np.isnan(violated)
        own = np.where(counted, violated, 0.0).sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
        excess = _excess(own / self._limits[level]) * counted.any(axis=0)
        moved = self.factors * np.exp(config.server_step * excess)
        self.factors = np.clip(moved, 1.0 / config.most_factor, config.most_factor)

    def each(self) -> FloatArray:
        """Returns the price under each limit on each server, shape ``(limits, servers)``."""
        return self._bounded(self.prices[:, None] * self.factors)

    def _bounded(self, prices: FloatArray) -> FloatArray:
        bounded: FloatArray = np.clip(prices, self._config.lowest_price, self._config.highest_price)
        return bounded


def _excess(ratio: Sequence[float] | FloatArray) -> FloatArray:
    """Returns how far rates are above their limits, as far as one round is believed."""
    return np.clip(np.asarray(ratio) - 1.0, -1.0, 2.0)
