"""Servers that are always full, measured at many settings by a few compiled calls."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs import catalog
from envs.cache import atomic_write_bytes, cache_dir
from envs.errors import ConfigurationError, InfeasibleModelError
from envs.knobs import Knobs
from envs.simulator.fleet import Fleet
from envs.simulator.server_spec import ServerSpec
from envs.telemetry import NUMERIC_FIELDS
from experiments.records.hashing import digest, plain, simulator_digest

FloatArray = NDArray[np.float64]
OnPart = Callable[[int, int], None]
COUNTS = ("total", "output")
SCOPES = ("gpu", "system")
_CHUNK = 64
_BACKLOG = 2
_COLUMNS = (
    "duration_s", "prompt_tokens", "output_tokens", "energy_gpu_j", "energy_system_j",
    "cap_binding", "sm_clock_mhz", "kv_cache_usage", "preemptions",
)  # fmt: skip


class Point(NamedTuple):
    """One setting of one server.

    Attributes:
        model: Name of the model.
        cap_w: Power cap per GPU.
        batch: Batch limit of a replica.
        tensor: Tensor-parallel size.
        expert: Expert-parallel size.
        data: Data-parallel replicas.
        lengths: Name of the request lengths.
        gpu: Name of the GPU type.
    """

    model: str
    cap_w: float
    batch: int
    tensor: int = 4
    expert: int = 1
    data: int = 1
    lengths: str = "gsm8k"
    gpu: str = "a100_sxm4_80gb"


@dataclass(kw_only=True)
class SteadyConfig:
    """How a full server is measured.

    Attributes:
        seeds: Number of seeds; each draws other request lengths.
        settle_s: Time that is not counted, in seconds.
        measure_s: Time over which it is measured, in seconds.
    """

    seeds: int = 8
    settle_s: float = 20.0
    measure_s: float = 60.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: A value is out of range.
        """
        for key in ("seeds", "settle_s", "measure_s"):
            if not getattr(self, key) > 0:
                raise ConfigurationError(
                    f"figure.steady.{key}: must be > 0, got {getattr(self, key)}"
                )


class Steady:
    """What a setting delivered, one value a seed.

    Args:
        values: Shape ``(seeds, columns)``.
    """

    def __init__(self, values: FloatArray) -> None:
        self._values = dict(zip(_COLUMNS, values.T, strict=True))

    def __getitem__(self, name: str) -> FloatArray:
        values: FloatArray = self._values[name]
        return values

    def tokens(self, count: str = "total") -> FloatArray:
        """Tokens: prompt and output (``total``), or ``output`` alone."""
        output = self["output_tokens"]
        return output + self["prompt_tokens"] if count == "total" else output

    def tokens_per_s(self, count: str = "total") -> FloatArray:
        """Tokens per second."""
        return np.asarray(self.tokens(count) / self["duration_s"])

    def per_joule(self, count: str = "total", scope: str = "gpu") -> FloatArray:
        """Tokens per joule of the GPUs, or of the nodes (``system``)."""
        return np.asarray(self.tokens(count) / self[f"energy_{scope}_j"])

    @property
    def power_w(self) -> FloatArray:
        """Power of all GPUs."""
        return np.asarray(self["energy_gpu_j"] / self["duration_s"])


def measure(
    points: Sequence[Point],
    settings: SteadyConfig,
    *,
    uncertainty: bool = False,
    on_part: OnPart | None = None,
) -> dict[Point, Steady]:
    """Measures settings; what was measured before, by the same code, is taken from the cache.

    The same seed gives every setting the same requests, and with ``uncertainty`` the same draw of
    the coefficients, so that ratios of settings are paired.

    Args:
        points: The settings, each once; those that a model does not fit are left out.
        settings: How to measure.
        uncertainty: Draws the calibration's coefficients again for every seed, within what the
            calibration says is not known.
        on_part: Called with how many points are done and how many there are.
    """
    possible = [point for point in dict.fromkeys(points) if is_possible(point)]
    found: dict[Point, Steady] = {}
    for begin in range(0, len(possible), _CHUNK):
        chunk = possible[begin : begin + _CHUNK]
        values = _cached(chunk, settings, uncertainty)
        found.update(zip(chunk, map(Steady, values), strict=True))
        if on_part is not None:
            on_part(begin + len(chunk), len(possible))
    return found


def is_possible(point: Point) -> bool:
    """Returns whether the model can be served like this at all."""
    try:
        return bool(server_spec_of(point).spec.kv_blocks)
    except (InfeasibleModelError, ConfigurationError):
        return False


def server_spec_of(point: Point) -> ServerSpec:
    """Returns the server of a point, kept full by twice as many requests as it has places."""
    return _server_spec(
        point.model, point.tensor, point.expert, point.data, point.lengths, point.gpu, point.batch
    )


@cache
def _server_spec(
    model: str, tensor: int, expert: int, data: int, lengths: str, gpu: str, batch: int
) -> ServerSpec:
    # Beyond 64 the server is started with a higher limit; else the knob alone sets the batch.
    places = max(64, batch)
    server = {
        "base": "simulated", "tensor_parallel": tensor, "expert_parallel": expert,
        "data_parallel": data, "max_num_seqs": places,
    }  # fmt: skip
    workload = {
        "base": "closed_loop", "lengths": lengths, "concurrency": _BACKLOG * places * data
    }  # fmt: skip
    return ServerSpec(
        gpu=catalog.build("gpu", gpu),
        model=catalog.build("model", model),
        server=catalog.build("server", server),
        workload=catalog.build("workload", workload),
    )


def _cached(points: list[Point], settings: SteadyConfig, uncertainty: bool) -> FloatArray:
    choices: list[Any] = [
        plain(catalog.load(group, name))
        for group, key in (("model", "model"), ("gpu", "gpu"), ("workload/lengths", "lengths"))
        for name in dict.fromkeys(getattr(point, key) for point in points)
    ]
    key = digest([point._asdict() for point in points], asdict(settings), uncertainty, choices,
                 _COLUMNS, simulator_digest())  # fmt: skip
    file = cache_dir() / "figures" / f"{key}.npy"
    shape = (len(points), settings.seeds, len(_COLUMNS))
    kept = _read(file)
    if kept is not None and kept.shape == shape:
        return kept
    values = _run(points, settings, uncertainty)
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    atomic_write_bytes(file, buffer.getvalue())
    return values


def _read(file: Path) -> FloatArray | None:
    """Reads a cached array; ``None`` where there is none, or a damaged one."""
    try:
        values: FloatArray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values


def _run(points: list[Point], settings: SteadyConfig, uncertainty: bool) -> FloatArray:
    seeds = range(settings.seeds)
    fleet = Fleet(
        [server_spec_of(point) for point in points for _ in seeds],
        randomize=uncertainty,
        latency=False,
    )
    for index, (_, seed) in enumerate((point, seed) for point in points for seed in seeds):
        fleet.reset(index, seed)
    fleet.apply(
        Knobs(
            np.repeat([point.cap_w for point in points], settings.seeds),
            np.repeat([point.batch for point in points], settings.seeds),
        )
    )
    fleet.advance(settings.settle_s)
    rows = fleet.advance(settings.measure_s)
    columns = [NUMERIC_FIELDS.index(name) for name in _COLUMNS]
    return np.asarray(rows[:, columns].reshape(len(points), settings.seeds, -1).copy())
