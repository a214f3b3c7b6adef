"""Signals over time: what targets, budgets, prices and carbon intensities are made of."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.fields import Checked, Part, Range
from envs.objectives.csv_series import read_series
from envs.quantities import Hold, Number, SecondsOrNone

FloatArray = NDArray[np.float64]


@dataclass(kw_only=True)
class Signal(Checked, ABC):
    """A number that changes over time."""

    config_key: ClassVar[str] = "signal"

    @abstractmethod
    def values(self, times_s: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Returns the signal at ascending times (seconds since reset), shape of ``times_s``.

        Args:
            times_s: Times at which an interval begins.
            rng: Source of every random draw.
        """

    def lowest(self) -> float | None:
        """Returns a value that the signal never falls below; ``None`` if that is not known."""
        return None


@dataclass(kw_only=True)
class Constant(Signal):
    """The same value throughout.

    Attributes:
        value: The value.
    """

    value: Number = 1.0

    @override
    def values(self, times_s: FloatArray, rng: np.random.Generator) -> FloatArray:
        return np.full(times_s.shape, float(self.value))

    def lowest(self) -> float:
        """Returns the lowest value."""
        return self.value


@dataclass(kw_only=True)
class Steps(Signal):
    """A value that steps through a list and begins again at its end.

    Attributes:
        levels: Values in turn.
        every_s: Time between two steps in seconds.
    """

    levels: list[Number] = field(default_factory=lambda: [1.0, 0.7, 0.85])
    every_s: Hold = 60.0

    def __post_init__(self) -> None:
        """Checks that there is a level."""
        super().__post_init__()
        self.require(len(self.levels) > 0, "levels", "have at least one level")

    @override
    def values(self, times_s: FloatArray, rng: np.random.Generator) -> FloatArray:
        index = (times_s / self.every_s).astype(np.int64) % len(self.levels)
        return np.asarray(self.levels, dtype=np.float64)[index]

    def lowest(self) -> float:
        """Returns the lowest value."""
        return min(self.levels)


@dataclass(kw_only=True)
class RandomSteps(Signal):
    """Levels drawn uniformly, each held for an exponentially distributed time.

    Attributes:
        low: Lowest level.
        high: Highest level.
        mean_hold_s: Mean time a level is held, in seconds.
    """

    low: Number = 0.5
    high: Number = 1.0
    mean_hold_s: Hold = 60.0

    def __post_init__(self) -> None:
        """Checks that the bounds are in order."""
        super().__post_init__()
        self.require(self.low <= self.high, "low", f"be <= high ({self.high})")

    @override
    def values(self, times_s: FloatArray, rng: np.random.Generator) -> FloatArray:
        horizon = float(times_s[-1]) if times_s.size else 0.0
        count = 16 + int(4 * horizon / self.mean_hold_s)
        begins = np.concatenate([[0.0], np.cumsum(rng.exponential(self.mean_hold_s, count))])
        levels = rng.uniform(self.low, self.high, count + 1)
        return levels[np.searchsorted(begins, times_s, side="right") - 1]

    def lowest(self) -> float:
        """Returns the lowest value."""
        return self.low


@dataclass(kw_only=True)
class Regulation(Signal):
    """A synthetic demand-response signal: mean-reverting noise held for some seconds.

    Grid operators' regulation signals move every few seconds around zero and are made to be
    energy-neutral; this Ornstein-Uhlenbeck process, clipped to the band, imitates that. It is
    synthetic: no operator's signal is reproduced.

    Attributes:
        low: Lower end of the band.
        high: Upper end of the band.
        hold_s: Time between two updates in seconds.
        reversion_s: Time constant of the return to the middle, in seconds.
        ramp_per_s: Largest change per second as a fraction of the band; ``inf`` when unlimited.
    """

    low: Number = 0.5
    high: Number = 1.0
    hold_s: Hold = 4.0
    reversion_s: Hold = 120.0
    ramp_per_s: Annotated[float, Range(above=0.0, most=1e6, infinite=True)] = math.inf

    def __post_init__(self) -> None:
        """Checks that the bounds are in order."""
        super().__post_init__()
        self.require(self.low <= self.high, "low", f"be <= high ({self.high})")

    @override
    def values(self, times_s: FloatArray, rng: np.random.Generator) -> FloatArray:
        horizon = float(times_s[-1]) if times_s.size else 0.0
        count = int(horizon / self.hold_s) + 2
        keep = math.exp(-self.hold_s / self.reversion_s)
        noise = rng.normal(0.0, 0.5 * math.sqrt(1.0 - keep * keep), count)
        levels = np.empty(count)
        level = 0.0
        ramp = 2.0 * self.ramp_per_s * self.hold_s
        for index in range(count):
            wanted = min(1.0, max(-1.0, keep * level + noise[index]))
            level = min(level + ramp, max(level - ramp, wanted))
            levels[index] = level
        middle, half = 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)
        return middle + half * levels[(times_s / self.hold_s).astype(np.int64)]

    def lowest(self) -> float:
        """Returns the lowest value."""
        return self.low


@dataclass(kw_only=True)
class FromFile(Signal):
    """A signal read from a CSV file: prices, carbon intensities, an operator's own signal.

    Attributes:
        path: The file.
        time_column: Column of times, ascending: seconds, or ISO 8601 timestamps.
        value_column: Column of values.
        begin_s: Time in the file, in seconds after its first row, at which the signal begins.
        time_scale: Factor on the times (``1/60`` compresses an hour into a minute).
        value_scale: Factor on the values.
        skip_gaps: Keeps the previous value at a row without one instead of refusing the file.
    """

    path: str
    time_column: str = "time_s"
    value_column: str = "value"
    begin_s: SecondsOrNone = 0.0
    time_scale: Annotated[float, Range(least=1e-9, most=1e9)] = 1.0
    value_scale: Number = 1.0
    skip_gaps: bool = False

    def __post_init__(self) -> None:
        """Reads the file.

        Raises:
            WorkloadError: The file cannot be read; the message names file and line.
        """
        super().__post_init__()
        times, values = read_series(
            self.path, self.time_column, self.value_column, skip_gaps=self.skip_gaps
        )
        start = times[0] if self.begin_s > 0 else 0.0
        self._times = (times - start - self.begin_s) * self.time_scale
        self._values = self.value_scale * values

    @override
    def values(self, times_s: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Returns the file's values, and the first or last one beyond its rows."""
        index = np.searchsorted(self._times, times_s, side="right") - 1
        return self._values[np.maximum(index, 0)]

    def lowest(self) -> float:
        """Returns the lowest value."""
        return float(self._values.min())


@dataclass(kw_only=True)
class Band(Signal):
    """Another signal mapped onto a band: a power budget that follows carbon or price.

    Where the other signal is at its ``from_low`` this one is at ``low``, and at ``from_high``
    at ``high``; in between it is linear, outside it is clipped.

    Attributes:
        signal: The other signal, or a number.
        low: Lower end of the band.
        high: Upper end of the band.
        from_low: Value that maps to ``low``; ``None`` takes the lowest of the episode.
        from_high: Value that maps to ``high``; ``None`` takes the highest of the episode.
        invert: Reverses the mapping: the higher the carbon intensity or price, the lower this
            signal.
    """

    signal: Annotated[Any, Part("signal")]
    low: Number = 0.5
    high: Number = 1.0
    from_low: Number | None = None
    from_high: Number | None = None
    invert: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.signal = as_signal(self.signal)
        self.require(isinstance(self.signal, Signal), "signal", "be a signal or a number")
        self.require(self.low <= self.high, "low", f"be <= high ({self.high})")
        if self.from_low is not None and self.from_high is not None:
            self.require(self.from_low < self.from_high, "from_low", f"be < {self.from_high}")

    @override
    def values(self, times_s: FloatArray, rng: np.random.Generator) -> FloatArray:
        seen: FloatArray = self.signal.values(times_s, rng)
        low = float(seen.min()) if self.from_low is None else self.from_low
        high = float(seen.max()) if self.from_high is None else self.from_high
        fraction = np.clip((seen - low) / max(high - low, 1e-12), 0.0, 1.0)
        if self.invert:
            fraction = 1.0 - fraction
        return np.asarray(self.low + (self.high - self.low) * fraction)

    def lowest(self) -> float:
        """Returns the lowest value."""
        return self.low


def as_signal(value: Any) -> Any:
    """Returns a constant signal for a plain number, and anything else as it is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Constant(value=float(value)) if number else value
