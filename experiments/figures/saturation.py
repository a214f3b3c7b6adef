"""Servers that are always full, measured at many operating points by a few compiled calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from envs import catalog
from envs.fields import Checked
from envs.knobs import Knobs
from envs.quantities import Seconds, Seeds
from envs.simulator.fleet import Fleet
from envs.sources import computation_hash
from envs.telemetry import NUMERIC_FIELDS
from experiments.figures.operating_point import OperatingPoint, is_possible, server_spec_of
from experiments.records.array_cache import cached_array
from experiments.records.hashing import digest, plain

FloatArray = NDArray[np.float64]
OnPart = Callable[[int, int], None]
COUNTS = ("total", "output")
"""Tokens that are counted: prompt and output, or output alone."""

SCOPES = ("gpu", "system")
"""Whose energy is counted: that of the GPUs, or of whole nodes."""

_CHUNK = 64
_COLUMNS = (
    "duration_s",
    "prompt_tokens",
    "output_tokens",
    "energy_gpu_j",
    "energy_system_j",
    "cap_binding",
    "sm_clock_mhz",
    "kv_cache_usage",
    "preemptions",
)


@dataclass(kw_only=True)
class SteadyConfig(Checked):
    """How a full server is measured (``figure.steady``).

    Attributes:
        seeds: Number of seeds; each draws other request lengths.
        settle_s: Time before the measurement, in seconds.
        measure_s: Duration of the measurement, in seconds.
    """

    config_key: ClassVar[str] = "figure.steady"

    seeds: Seeds = 8
    settle_s: Seconds = 20.0
    measure_s: Seconds = 60.0


class SteadyState:
    """What a server delivered at an operating point, one value per seed.

    Args:
        values: Shape ``(seeds, columns)``.
    """

    def __init__(self, values: FloatArray) -> None:
        self._values = dict(zip(_COLUMNS, values.T, strict=True))

    def __getitem__(self, name: str) -> FloatArray:
        values: FloatArray = self._values[name]
        return values

    def tokens(self, count: str = "total") -> FloatArray:
        """Returns tokens: prompt and output (``total``), or ``output`` alone."""
        output = self["output_tokens"]
        return output + self["prompt_tokens"] if count == "total" else output

    def tokens_per_s(self, count: str = "total") -> FloatArray:
        """Returns tokens per second."""
        return np.asarray(self.tokens(count) / self["duration_s"])

    def per_joule(self, count: str = "total", scope: str = "gpu") -> FloatArray:
        """Returns tokens per joule of the GPUs, or of the nodes (``system``)."""
        return np.asarray(self.tokens(count) / self[f"energy_{scope}_j"])

    @property
    def power_w(self) -> FloatArray:
        """Power of all GPUs in watts."""
        return np.asarray(self["energy_gpu_j"] / self["duration_s"])


def measure(
    points: Sequence[OperatingPoint],
    config: SteadyConfig,
    *,
    uncertainty: bool = False,
    on_part: OnPart | None = None,
) -> dict[OperatingPoint, SteadyState]:
    """Measures operating points; results of the same code are taken from the cache.

    The same seed gives every point the same requests, and with ``uncertainty`` the same draw of
    the coefficients, so that ratios of points are paired.

    Args:
        points: The points; those at which the model does not fit are left out.
        config: How to measure.
        uncertainty: Draws the calibration's coefficients again for every seed, within their
            uncertainty.
        on_part: Called with the number of points done and of all points.
    """
    possible = [point for point in dict.fromkeys(points) if is_possible(point)]
    found: dict[OperatingPoint, SteadyState] = {}
    for begin in range(0, len(possible), _CHUNK):
        chunk = possible[begin : begin + _CHUNK]
        values = _cached(chunk, config, uncertainty)
        found.update(zip(chunk, map(SteadyState, values), strict=True))
        if on_part is not None:
            on_part(begin + len(chunk), len(possible))
    return found


def _cached(points: list[OperatingPoint], config: SteadyConfig, uncertainty: bool) -> FloatArray:
    choices: list[Any] = [
        plain(catalog.load(group, name))
        for group, key in (("model", "model"), ("gpu", "gpu"), ("workload/lengths", "lengths"))
        for name in dict.fromkeys(getattr(point, key) for point in points)
    ]
    key = digest(
        [point._asdict() for point in points],
        asdict(config),
        uncertainty,
        choices,
        _COLUMNS,
        computation_hash(),
    )
    shape = (len(points), config.seeds, len(_COLUMNS))
    return cached_array("figures", key, shape, lambda: _run(points, config, uncertainty))


def _run(points: list[OperatingPoint], config: SteadyConfig, uncertainty: bool) -> FloatArray:
    seeds = range(config.seeds)
    fleet = Fleet(
        [server_spec_of(point) for point in points for _ in seeds],
        randomize=uncertainty,
        latency=False,
    )
    for index, (_, seed) in enumerate((point, seed) for point in points for seed in seeds):
        fleet.reset(index, seed)
    fleet.apply(
        Knobs(
            np.repeat([point.cap_w for point in points], config.seeds),
            np.repeat([point.batch for point in points], config.seeds),
        )
    )
    fleet.advance(config.settle_s)
    rows = fleet.advance(config.measure_s)
    columns = [NUMERIC_FIELDS.index(name) for name in _COLUMNS]
    return np.asarray(rows[:, columns].reshape(len(points), config.seeds, -1).copy())
