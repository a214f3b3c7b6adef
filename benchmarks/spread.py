"""Repeated measurements and their spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A measurement over repeats.

    Attributes:
        median: The value to quote.
        low: The lowest repeat.
        high: The highest repeat.
        repeats: Number of repeats.
    """

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Sums up repeats."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} … {number(self.high)})"


def number(value: float) -> str:
    """Returns a number with about four digits and a thousands separator."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def rates(work: Callable[[], float], repeats: int) -> tuple[Spread, Spread]:
    """Repeats some work and returns its rate.

    Args:
        work: Does some work and returns its amount.
        repeats: Number of repeats.

    Returns:
        Work per second of wall time, and per second of this process's own processor time (all
        threads), which other programs on the machine do not lengthen.
    """
    wall, cpu = [], []
    for _ in range(repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        done = work()
        wall.append(done / (time.perf_counter() - began))
        cpu.append(done / (time.process_time() - began_cpu))
    return Spread.of(wall), Spread.of(cpu)
