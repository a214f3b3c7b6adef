"""Reads vLLM's ``/metrics``: two generations of names, and counters that start again.

Names are those of vLLM 0.32; older ones follow after them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from envs.live.errors import MetricsError
from envs.live.http_client import HttpClient

GAUGES = {
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "kv_cache_usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
}
COUNTERS = {
    "output_tokens": ("vllm:generation_tokens_total",),
    "prompt_tokens": ("vllm:prompt_tokens_total",),
    "preemptions": ("vllm:num_preemptions_total",),
    "finished": ("vllm:request_success_total",),
}
HISTOGRAMS = {
    "ttft": ("vllm:time_to_first_token_seconds",),
    "tpot": (
        "vllm:request_time_per_output_token_seconds",
        "vllm:time_per_output_token_seconds",
    ),
    "e2e": ("vllm:e2e_request_latency_seconds",),
    "prompt_length": ("vllm:request_prompt_tokens",),
}
REQUIRED = ("running", "waiting", "output_tokens")
CACHE = "vllm:cache_config_info"
START = "process_start_time_seconds"


class Histogram(NamedTuple):
    """A histogram's state, or what was added to it over an interval.

    Attributes:
        bounds: Upper bounds of the buckets, ascending, the last infinite.
        counts: Samples up to each bound.
        total: Sum of all samples.
    """

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()
    total: float = 0.0

    @property
    def samples(self) -> float:
        """Number of samples."""
        return self.counts[-1] if self.counts else 0.0

    @property
    def mean(self) -> float:
        """Mean of the samples; 0 when there are none."""
        return self.total / self.samples if self.samples else 0.0

    def minus(self, earlier: Histogram) -> Histogram:
        """Returns what was added since ``earlier``."""
        if earlier.bounds != self.bounds:
            return self
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        return Histogram(self.bounds, counts, self.total - earlier.total)

    def percentile(self, q: float) -> float:
        """Returns the ``q``-th percentile (0 to 100), linear within its bucket; 0 if empty."""
        rank = self.samples * q / 100.0
        below, lower = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank and count > below:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (rank - below) / (count - below)
            below, lower = count, bound
        return 0.0

    def above(self, limit: float) -> float:
        """Returns how many samples exceed ``limit``, linear within its bucket."""
        below, lower = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if bound >= limit:
                if math.isinf(bound):
                    return self.samples - below if limit <= lower else 0.0
                fraction = (limit - lower) / (bound - lower)
                return self.samples - below - fraction * (count - below)
            below, lower = count, bound
        return 0.0


@dataclass(frozen=True)
class Snapshot:
    """One reading of ``/metrics``; values of several engines are added up.

    Attributes:
        gauges: By the keys of :data:`GAUGES`; missing families are missing here.
        counters: By the keys of :data:`COUNTERS`.
        histograms: By the keys of :data:`HISTOGRAMS`.
        start_time_s: When the server process started, if it tells.
        kv_cache_tokens: Tokens the KV cache holds; 0 if the server does not tell.
    """

    gauges: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    start_time_s: float | None = None
    kv_cache_tokens: float = 0.0

    def restarted_since(self, earlier: Snapshot) -> bool:
        """Whether the server started again: another start time, or a counter that fell."""
        if None not in (self.start_time_s, earlier.start_time_s):
            return self.start_time_s != earlier.start_time_s
        return any(value < earlier.counters.get(key, 0.0) for key, value in self.counters.items())

    def since(self, earlier: Snapshot) -> Snapshot:
        """Returns gauges as they are, and counters and histograms as what was added.

        After a restart everything since the restart counts.
        """
        if self.restarted_since(earlier):
            return self
        return Snapshot(
            gauges=self.gauges,
            counters={
                key: value - earlier.counters.get(key, 0.0) for key, value in self.counters.items()
            },
            histograms={
                key: value.minus(earlier.histograms.get(key, Histogram()))
                for key, value in self.histograms.items()
            },
            start_time_s=self.start_time_s,
            kv_cache_tokens=self.kv_cache_tokens,
        )


def fetch(client: HttpClient) -> Snapshot:
    """Reads the server's metrics.

    Raises:
        MetricsError: The answer is an error or garbage.
        ServerError: There is no answer.
    """
    status, body = client.call("GET", "/metrics")
    if status != 200:
        raise MetricsError(f"{client.url}/metrics: answered {status}, expected 200")
    try:
        return parse(body.decode())
    except UnicodeDecodeError as error:
        raise MetricsError(f"{client.url}/metrics: the answer is no text") from error
    except MetricsError as error:
        raise MetricsError(f"{client.url}/metrics: {error}") from error


def parse(text: str) -> Snapshot:
    """Reads metrics in Prometheus text format.

    Raises:
        MetricsError: The text is no such format, or lacks a required family.
    """
    samples = _samples(text)
    gauges = {key: _sum(samples, names) for key, names in GAUGES.items()}
    counters = {key: _sum(samples, names) for key, names in COUNTERS.items()}
    found = gauges | counters
    missing = [key for key in REQUIRED if found[key] is None]
    if missing:
        names = [(GAUGES | COUNTERS)[key][0] for key in missing]
        raise MetricsError(
            f"no {', '.join(names)}; is this a vLLM server, started without --disable-log-stats?"
        )
    usage = gauges["kv_cache_usage"]
    if usage is not None:
        name = next(name for name in GAUGES["kv_cache_usage"] if name in samples)
        gauges["kv_cache_usage"] = usage / len(samples[name])
    cache = samples.get(CACHE, [])
    start = samples.get(START)
    return Snapshot(
        gauges={key: value for key, value in gauges.items() if value is not None},
        counters={key: value for key, value in counters.items() if value is not None},
        histograms={key: _histogram(samples, names) for key, names in HISTOGRAMS.items()},
        start_time_s=start[0][1] if start else None,
        kv_cache_tokens=sum(_cache_tokens(labels) for labels, _ in cache),
    )


Samples = dict[str, list[tuple[dict[str, str], float]]]


def _samples(text: str) -> Samples:
    """Returns label sets and values by sample name, of the families that are used."""
    from prometheus_client.parser import text_string_to_metric_families

    wanted = tuple(
        name for group in (GAUGES, COUNTERS, HISTOGRAMS) for names in group.values()
        for name in names
    )  # fmt: skip
    prefixes = (*wanted, CACHE, START)
    lines = [line for line in text.splitlines() if line.startswith(prefixes)]
    found: Samples = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if not math.isfinite(sample.value):
                    raise ValueError(f"{sample.name} is {sample.value}")
                found.setdefault(sample.name, []).append((sample.labels, float(sample.value)))
    except (ValueError, KeyError, IndexError) as error:
        raise MetricsError(f"not in Prometheus text format ({error})") from error
    return found


def _sum(samples: Samples, names: tuple[str, ...]) -> float | None:
    for name in names:
        if name in samples:
            return math.fsum(value for _, value in samples[name])
    return None


def _histogram(samples: Samples, names: tuple[str, ...]) -> Histogram:
    for name in names:
        counts: dict[float, float] = {}
        for labels, value in samples.get(f"{name}_bucket", []):
            bound = float(labels["le"])
            counts[bound] = counts.get(bound, 0.0) + value
        if counts:
            bounds = tuple(sorted(counts))
            total = _sum(samples, (f"{name}_sum",)) or 0.0
            return Histogram(bounds, tuple(counts[bound] for bound in bounds), total)
    return Histogram()


def _cache_tokens(labels: dict[str, str]) -> float:
    try:
        return float(labels["num_gpu_blocks"]) * float(labels["block_size"])
    except (KeyError, ValueError):
        return 0.0
