"""Reads vLLM's ``/metrics``: two generations of names, and counters that start again.

Names are those of vLLM 0.32; older ones follow after them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from envs.live.errors import MetricsError
from envs.live.histogram import Histogram
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
    "prefix_cache_queries": ("vllm:prefix_cache_queries_total",),
    "prefix_cache_hits": ("vllm:prefix_cache_hits_total",),
}
HISTOGRAMS = {
    "ttft": ("vllm:time_to_first_token_seconds",),
    "tpot": (
        "vllm:request_time_per_output_token_seconds",
        "vllm:time_per_output_token_seconds",
    ),
    "e2e": ("vllm:e2e_request_latency_seconds",),
    "prompt_length": ("vllm:request_prompt_tokens",),
    "output_length": ("vllm:request_generation_tokens",),
}
REQUIRED = ("running", "waiting", "output_tokens")
CACHE = "vllm:cache_config_info"
START = "process_start_time_seconds"
ENGINE = "engine"
"""Label that tells the engines of one server apart."""


@dataclass(frozen=True)
class Snapshot:
    """One reading of ``/metrics``; values of several engines are added up.

    Attributes:
        gauges: By the keys of :data:`GAUGES`; missing families are missing here.
        counters: By the keys of :data:`COUNTERS`.
        histograms: By the keys of :data:`HISTOGRAMS`.
        start_time_s: When the server process started, if it tells.
        kv_cache_tokens: Tokens the KV cache holds; 0 if the server does not tell.
        engines: Counters and histograms of each engine by its label, where there are several:
            each of them may start again by itself.
    """

    gauges: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    start_time_s: float | None = None
    kv_cache_tokens: float = 0.0
    engines: dict[str, Snapshot] = field(default_factory=dict)

    def restarted_since(self, earlier: Snapshot) -> bool:
        """Whether server or engine started again: another start time, or a counter that fell."""
        if None not in (self.start_time_s, earlier.start_time_s):
            if self.start_time_s != earlier.start_time_s:
                return True
        elif self._fell_since(earlier):
            return True
        return any(
            engine._fell_since(earlier.engines.get(label, Snapshot()))
            for label, engine in self.engines.items()
        )

    def _fell_since(self, earlier: Snapshot) -> bool:
        return any(value < earlier.counters.get(key, 0.0) for key, value in self.counters.items())

    def since(self, earlier: Snapshot) -> Snapshot:
        """Returns gauges as they are, and counters and histograms as what was added.

        After a restart everything since the restart counts, of an engine that started again
        everything of that engine.
        """
        another = None not in (self.start_time_s, earlier.start_time_s) and (
            self.start_time_s != earlier.start_time_s
        )
        if another:
            return self
        if self.engines and earlier.engines:
            added = [
                engine._minus(earlier.engines.get(label, Snapshot()))
                for label, engine in self.engines.items()
            ]
            return replace(self, **_added_up(added))
        return self._minus(earlier)

    def _minus(self, earlier: Snapshot) -> Snapshot:
        if self._fell_since(earlier):
            return self
        return replace(
            self,
            counters={
                key: value - earlier.counters.get(key, 0.0) for key, value in self.counters.items()
            },
            histograms={
                key: value.minus(earlier.histograms.get(key, Histogram()))
                for key, value in self.histograms.items()
            },
        )


def _added_up(parts: list[Snapshot]) -> dict[str, Any]:
    """Returns counters and histograms of several engines together."""
    counters: dict[str, float] = {}
    histograms: dict[str, Histogram] = {}
    for part in parts:
        for key, value in part.counters.items():
            counters[key] = counters.get(key, 0.0) + value
        for key, histogram in part.histograms.items():
            histograms[key] = histograms.get(key, Histogram()).plus(histogram)
    return {"counters": counters, "histograms": histograms}


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
        engines=_engines(samples),
    )


def _engines(samples: Samples) -> dict[str, Snapshot]:
    """Returns counters and histograms by engine; nothing where there is only one."""
    by_engine: dict[str, Samples] = {}
    for name, values in samples.items():
        for labels, value in values:
            if ENGINE in labels:
                of_engine = by_engine.setdefault(labels[ENGINE], {})
                of_engine.setdefault(name, []).append((labels, value))
    if len(by_engine) < 2:
        return {}
    return {
        engine: Snapshot(
            counters={
                key: total
                for key, names in COUNTERS.items()
                if (total := _sum(found, names)) is not None
            },
            histograms={key: _histogram(found, names) for key, names in HISTOGRAMS.items()},
        )
        for engine, found in by_engine.items()
    }


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
