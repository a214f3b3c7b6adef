"""A recorded day of arrival rates: ServeGen's pools of a public service."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from envs.errors import WorkloadError
from envs.fields import Range
from envs.workloads.periodic import PeriodicArrivals
from envs.workloads.recording import require_file
from envs.workloads.servegen_pool import Rates, read_rates
from envs.workloads.synthetic import SyntheticWorkload

LOCATION = Path("servegen") / "rate_10min.csv"
"""Where the rates lie below ``$PALS_DATA``."""


@dataclass(kw_only=True)
class ServeGen(SyntheticWorkload):
    """Poisson arrivals with the rates of a recorded day, which begins again when it is over.

    What the pools' clients send together is close to a Poisson process within ten minutes, so
    that the burstiness of single clients, which ServeGen records too, is not modelled.

    Attributes:
        path: Rates as CSV (``pool``, ``time_s``, ``requests_per_s``), or a folder or ``.tar.gz`` of
            the clients' files; ``None`` looks below ``$PALS_DATA``.
        pool: Which pool of a CSV; ``None`` where the file holds one.
        start_s: Beginning of the window, in seconds of the recording.
        end_s: End of the window; ``None`` for the end of the recording.
        period_s: Time into which the window is compressed; ``None`` for real time.
    """

    reads_file: ClassVar[bool] = True

    pool: str | None = "reason/deepseek-r1"
    start_s: Annotated[float, Range(least=0.0, most=1e9)] = 0.0
    end_s: Annotated[float, Range(above=0.0, most=1e9)] | None = None
    period_s: Annotated[float, Range(least=1.0, most=1e8)] | None = None

    def __post_init__(self) -> None:
        """Checks the window; the file is read when it is first needed.

        Raises:
            ConfigurationError: A value is out of range.
            WorkloadError: A path is given, and there is nothing.
        """
        super().__post_init__()
        after = self.end_s is None or self.end_s > self.start_s
        self.require(after, "end_s", f"be later than workload.start_s ({self.start_s})")
        if self.path is not None and not Path(self.path).is_dir():
            require_file(Path(self.path))

    @cached_property
    def _window(self) -> Rates:
        rates, step_s = read_rates(self._file, self.pool)
        first = int(self.start_s // step_s)
        last = len(rates) if self.end_s is None else int(np.ceil(self.end_s / step_s))
        part = rates[first:last]
        if not part.sum() > 0.0:
            raise WorkloadError(
                f"{self._file}: no requests between workload.start_s={self.start_s} and "
                f"workload.end_s={self.end_s}; the rates end at {len(rates) * step_s:.0f} s"
            )
        return Rates(part, step_s)

    @property
    def _file(self) -> Path:
        if self.path is not None:
            return Path(self.path)
        place = Path(os.environ.get("PALS_DATA", "")) / LOCATION
        if "PALS_DATA" not in os.environ or not place.is_file():
            raise WorkloadError(
                f"workload.path: no file given, and no {LOCATION} below $PALS_DATA; get a pool "
                "from github.com/alibaba/ServeGen and give its folder"
            )
        return place

    @property
    def own_rate_per_s(self) -> float:
        """Mean rate of the window, in requests per second of the recording, compressed alike."""
        rates, step_s = self._window
        faster = 1.0 if self.period_s is None else len(rates) * step_s / self.period_s
        return float(rates.mean()) * faster

    @override
    def arrivals(self, rng: np.random.Generator, rate_per_s: float) -> PeriodicArrivals:
        rates, step_s = self._window
        ends = np.linspace(0.0, 1.0, len(rates) + 1)
        expected = np.concatenate(([0.0], np.cumsum(rates))) / rates.sum()
        expected[-1] = 1.0
        period_s = self.period_s or len(rates) * step_s
        return PeriodicArrivals(rng, rate_per_s, period_s, ends, expected)
