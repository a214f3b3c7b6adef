"""Reads ServeGen's pools: arrival rates by time, and histograms of lengths, of each client."""

from __future__ import annotations

import csv
import re
import tarfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.errors import WorkloadError
from envs.strict_json import read_json
from envs.workloads.text_file import open_text

_TRACE, _LENGTHS = "-trace.csv", "-dataset.json"
_HISTOGRAM = re.compile(r"([\d.]+(?:e[+-]?\d+)?)\s*:\s*([\d.]+(?:e[+-]?\d+)?)")
MOST_BYTES = 500_000_000
"""Size of the largest file of a client."""


class Rates(NamedTuple):
    """Arrival rates in equal pieces of time.

    Attributes:
        rate_per_s: Requests per second in each piece, shape ``(n,)``.
        step_s: Length of a piece in seconds.
    """

    rate_per_s: NDArray[np.float64]
    step_s: float


def read_rates(path: Path, pool: str | None) -> Rates:
    """Reads the arrival rates of a pool.

    Args:
        path: A CSV with the columns ``pool``, ``time_s`` and ``requests_per_s``; or a folder or
            ``.tar.gz`` of the clients' files as ServeGen publishes them, which are added up.
        pool: Which pool of a CSV; ``None`` where it holds one.

    Raises:
        WorkloadError: The file cannot be read, or has no such pool.
    """
    if path.is_dir() or path.suffix in (".gz", ".tgz", ".tar"):
        rates: dict[float, float] = {}
        for name, text in _clients(path, _TRACE):
            for time_s, rate in _client_rates(f"{path}/{name}", text):
                rates[time_s] = rates.get(time_s, 0.0) + rate
    else:
        rates = _summed(path, pool)
    if len(rates) < 2:
        raise WorkloadError(f"{path}: holds no arrival rates")
    times = np.array(sorted(rates))
    steps = np.diff(times)
    if not np.allclose(steps, steps[0], rtol=1e-6):
        raise WorkloadError(f"{path}: its times are not {steps[0]:g} s apart everywhere")
    values = np.array([rates[time] for time in times])
    if not values.sum() > 0.0:
        raise WorkloadError(f"{path}: no requests arrive")
    return Rates(values, float(steps[0]))


def _summed(path: Path, pool: str | None) -> dict[float, float]:
    try:
        found = _by_pool(path)
    except csv.Error as error:
        raise WorkloadError(f"{path}: {error}") from error
    if pool is None and len(found) == 1:
        pool = next(iter(found))
    if pool not in found:
        raise WorkloadError(
            f"workload.pool: {path} has no pool {pool!r}; there are {', '.join(sorted(found))}"
        )
    return found[pool]


def _by_pool(path: Path) -> dict[str, dict[float, float]]:
    """Returns the rate at each time of each pool of a CSV file."""
    found: dict[str, dict[float, float]] = {}
    with open_text(path) as file:
        reader = csv.DictReader(file)
        lacking = {"pool", "time_s", "requests_per_s"} - set(reader.fieldnames or [])
        if lacking:
            raise WorkloadError(f"{path}:1: no column {', '.join(sorted(lacking))}")
        for row in reader:
            place = f"{path}:{reader.line_num}"
            time_s = _number(place, "time_s", row["time_s"])
            rate = _number(place, "requests_per_s", row["requests_per_s"])
            rates = found.setdefault(str(row["pool"]), {})
            if time_s in rates:
                raise WorkloadError(f"{place}: time_s {time_s:g} stands there twice")
            rates[time_s] = rate
    return found


def _client_rates(place: str, text: str) -> Iterator[tuple[float, float]]:
    try:
        for number, row in enumerate(csv.reader(StringIO(text)), start=1):
            if len(row) < 2:
                raise WorkloadError(f"{place}:{number}: no time and rate")
            at = f"{place}:{number}"
            yield _number(at, "time", row[0]), _number(at, "rate", row[1] or "0")
    except csv.Error as error:
        raise WorkloadError(f"{place}: {error}") from error


def _number(place: str, name: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1e9:
        raise WorkloadError(f"{place}: {name} must be a number from 0 to 1e9, got {text!r}")
    return value


def read_lengths(path: Path, kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reads how long a pool's requests are.

    A client's histograms hold for a quarter of the day and count as many requests as the client
    sends in it.

    Args:
        path: A folder or ``.tar.gz`` of the clients' files as ServeGen publishes them.
        kind: ``input_tokens`` or ``output_tokens``.

    Returns:
        Ascending lengths and the fraction of requests that have each, both of shape ``(n,)``.

    Raises:
        WorkloadError: The files cannot be read.
    """
    rates = {
        name.removesuffix(_TRACE): list(_client_rates(f"{path}/{name}", text))
        for name, text in _clients(path, _TRACE)
    }
    weights: dict[float, float] = {}
    for name, text in _clients(path, _LENGTHS):
        try:
            windows = read_json(text)
            starts = sorted(windows, key=float)
            for start, end in zip(starts, [*starts[1:], "inf"], strict=True):
                sent = sum(
                    rate
                    for time_s, rate in rates.get(name.removesuffix(_LENGTHS), [])
                    if float(start) <= time_s < float(end)
                )
                for length, fraction in _HISTOGRAM.findall(windows[start][kind]):
                    tokens = float(length)
                    weights[tokens] = weights.get(tokens, 0.0) + sent * float(fraction)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WorkloadError(f"{path}/{name}: no histogram of {kind}: {error}") from error
    total = sum(weights.values())
    if not total > 0.0:
        raise WorkloadError(f"{path}: holds no histograms of {kind}")
    lengths = np.array(sorted(weights))
    return lengths, np.array([weights[length] for length in lengths]) / total


def _clients(path: Path, ending: str) -> Iterator[tuple[str, str]]:
    """Yields names and contents of the clients' files with an ending."""
    try:
        if path.is_dir():
            for file in sorted(path.rglob(f"*{ending}")):
                yield file.name, file.read_text(encoding="utf-8")
            return
        with tarfile.open(path) as archive:
            for member in archive:
                small = member.isfile() and member.size <= MOST_BYTES
                stream = archive.extractfile(member) if small else None
                if stream is not None and member.name.endswith(ending):
                    yield Path(member.name).name, stream.read().decode("utf-8", "replace")
    except (OSError, tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: cannot be read: {error}") from error
