"""Every metric of a run: its name for people, its unit, its direction and what it means.

Tables on the terminal, in reports and in ``docs/metrics.md`` are made from :data:`METRICS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from experiments.reporting.numbers import ABSENT, FOUR_DIGITS, format_number

COUNT = ",.0f"


class Better(Enum):
    """Which values of a metric are better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = ABSENT


@dataclass(frozen=True)
class Metric:
    """One metric; its values are in SI units, rates and fractions from 0 to 1.

    Attributes:
        key: Key in ``summary.json`` and in tables of results.
        title: Name for people.
        short: Name where there is little room, such as the head of a column.
        description: What it means, as Markdown.
        unit: Unit that it is shown in; empty for plain numbers.
        factor: Factor from the SI value into that unit.
        better: Which values are better.
        format: Format of a value in that unit.
    """

    key: str
    title: str
    short: str
    description: str
    unit: str = ""
    factor: float = 1.0
    better: Better = Better.NEITHER
    format: str = FOUR_DIGITS

    def text(self, value: float | None) -> str:
        """Returns a value in the unit shown, without the unit."""
        return format_number(value, self.factor, self.format)

    @property
    def head(self) -> str:
        """The short name with the unit."""
        return f"{self.short} {self.unit}".rstrip()

    @property
    def label(self) -> str:
        """The title with the unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def is_rate(self) -> bool:
        """Whether its values are fractions: two of them differ by points, not by per cent."""
        return self.unit == "%"

    def worst(self, values: Sequence[float]) -> float:
        """Returns the worst of some values; the highest where neither direction is better."""
        return min(values) if self.better is Better.HIGHER else max(values)


def _rate(key: str, title: str, short: str, description: str) -> Metric:
    return Metric(key, title, short, description, "%", 100.0, Better.LOWER)


def _percentiles(name: str, title: str, unit: str, factor: float, description: str) -> list[Metric]:
    return [
        Metric(
            f"{name}_p{q}_s", f"{title}, {words}", f"{name.upper()} p{q}", description, unit,
            factor, Better.LOWER,
        )
        for q, words in ((50, "median"), (99, "p99"))
    ]  # fmt: skip


def _count(key: str, title: str, description: str, better: Better = Better.NEITHER) -> Metric:
    return Metric(key, title, title.lower(), description, better=better, format=COUNT)


_RUN = (
    Metric("tokens_per_joule", "Tokens per joule (GPUs)", "tokens",
           "prompt and output tokens over the energy of the GPUs", "tok/J", better=Better.HIGHER),
    Metric("tokens_per_joule_system", "Tokens per joule (node)", "node tokens",
           "the same over the energy of the node: α · GPUs + β per node (arXiv:2605.21427 §3.1)",
           "tok/J", better=Better.HIGHER),
    Metric("output_tokens_per_joule", "Output tokens per joule (GPUs)", "output tokens",
           "output tokens over the energy of the GPUs", "tok/J", better=Better.HIGHER),
    Metric("throughput_tok_s", "Throughput (output)", "throughput", "output tokens per second",
           "tok/s", better=Better.HIGHER),
    Metric("power_mean_w", "Mean power (all GPUs)", "power", "mean power of all GPUs together",
           "W", better=Better.LOWER),
    Metric("energy_gpu_j", "Energy (GPUs)", "GPU energy", "energy of all GPUs together",
           "kJ", 1e-3, Better.LOWER),
    Metric("energy_system_j", "Energy (node)", "node energy",
           "energy of the node: α · GPUs + β per node", "kJ", 1e-3, Better.LOWER),
    _rate("qos_violation_rate", "QoS violations, against Baseline", "QoS viol.",
          "fraction of time in which windowed throughput is below 95 % of the lower of the target "
          "and what Baseline delivers on the same arrivals; simulation only"),
    _rate("qos_violation_rate_backlog", "QoS violations, backlog-aware", "QoS viol. (backlog)",
          "fraction of time below 95 % of the target while work waits; known on live servers, too"),
    _rate("qos_violation_rate_plain", "QoS violations, plain", "QoS viol. (plain)",
          "fraction of time below 95 % of the target, as the paper words it; arrivals alone cause "
          "most of it"),
    _rate("slo_violation_rate", "Latency-SLO violations", "SLO viol.",
          "fraction of requests that missed their TTFT or TPOT SLO; unfinished ones that are "
          "already past it count"),
    *_percentiles("ttft", "Time to first token", "s", 1.0,
                  "over all requests after the warm-up; one that still waits counts with its age"),
    *_percentiles("tpot", "Time per output token", "ms", 1e3,
                  "over all requests after the warm-up, after their first token"),
    *_percentiles("e2e", "Time to last token", "s", 1.0,
                  "over all finished requests after the warm-up"),
    Metric("power_tracking_error_w", "Power tracking error", "tracking error",
           "mean of abs(power − budget) over the intervals with a budget", "W",
           better=Better.LOWER),
    Metric("power_overshoot_mean_w", "Power above the budget, mean", "overshoot",
           "mean of max(0, power − budget) over the intervals with a budget", "W",
           better=Better.LOWER),
    _rate("budget_overshoot_rate", "Time above the power budget", "over budget",
          "fraction of the intervals with a budget whose power is more than 1 % above it"),
    Metric("cap_binding_fraction", "Time the cap binds", "cap binds",
           "fraction of time in which the cap, not the load, sets the clock", "%", 100.0),
    _count("knob_changes", "Knob changes",
           "intervals in which other knobs were requested than before"),
    _count("requests_arrived", "Requests arrived", "finished + running + waiting + rejected"),
    _count("requests_finished", "Requests finished", "requests whose last token was sent"),
    _count("requests_rejected", "Requests rejected",
           "requests longer than the context, or come when the queue is full", Better.LOWER),
    _count("requests_running", "Requests running", "requests in the batch at the end"),
    _count("requests_waiting", "Requests waiting", "requests without a place at the end"),
    _count("preemptions", "Preemptions", "requests put back for want of KV cache", Better.LOWER),
    Metric("prefix_cache_hit_rate", "Prefix cache, hit rate", "prefix hits",
           "prompt tokens found in the prefix cache over those looked up; without prefix caching "
           "nothing is", "%", 100.0, Better.HIGHER),
    _count("prompt_tokens", "Prompt tokens", "prompt tokens computed; each counts once"),
    _count("output_tokens", "Output tokens", "tokens generated"),
    Metric("duration_s", "Duration", "duration", "length of the run", "s"),
    Metric("reward_mean", "Reward, mean", "reward", "mean of the reward over all intervals",
           better=Better.HIGHER),
    Metric("cost_mean", "Cost, mean", "cost",
           "mean of the constraint signal: the fraction of intervals that violate QoS by the "
           "reward's definition", better=Better.LOWER),
    *(
        Metric(f"decision_p{q}_s", f"Decision time, {words}", f"decision p{q}",
               "wall-clock time that the controller takes for a decision about one server", "ms",
               1e3, Better.LOWER)
        for q, words in ((50, "median"), (99, "p99"))
    ),
    Metric("target_mean_tok_s", "Throughput target, mean", "target",
           "mean over the intervals with a target", "tok/s"),
    Metric("capacity_tok_s", "Capacity", "capacity",
           "output throughput of the saturated server at the highest knobs", "tok/s"),
    Metric("offered_tok_s", "Offered load", "offered",
           "output tokens per second that the workload asks for on average", "tok/s"),
    _count("num_gpus", "GPUs", "number of GPUs"),
    Metric("power_source", "Source of power", "power source",
           "`measured` by a device, or `modelled`"),
)  # fmt: skip

_CLUSTER = (
    Metric("budget_mean_w", "Power budget, mean", "budget", "mean of the cluster's budget", "W"),
    Metric("power_in_scope_mean_w", "Power within its scope, mean", "power in scope",
           "mean power of what the budget covers", "W", better=Better.LOWER),
    Metric("energy_over_budget_j", "Energy over the budget", "over budget",
           "energy drawn above the budget", "kJ", 1e-3, Better.LOWER),
    Metric("infeasible_fraction", "Time the budget cannot be met", "infeasible",
           "fraction of time in which the lowest caps already exceed the budget", "%", 100.0,
           Better.LOWER),
    Metric("down_fraction", "Time nodes are down", "down",
           "fraction of time in which a node did not answer, mean over nodes", "%", 100.0,
           Better.LOWER),
    _count("restarts", "Restarts", "how often a node came back (per node)", Better.LOWER),
)  # fmt: skip

TOKENS_PER_JOULE_RELATIVE = "tokens_per_joule_relative"
TOKENS_PER_JOULE_SYSTEM_RELATIVE = "tokens_per_joule_system_relative"
OUTPUT_TOKENS_RELATIVE = "output_tokens_relative"
CHANGES_PER_MINUTE = "knob_changes_per_minute"
WITHIN_BUDGET = "qos_violation_rate_within_budget"
NODE_KWH_PER_MILLION_TOKENS = "node_kwh_per_million_tokens"

_COMPARED = (
    Metric(TOKENS_PER_JOULE_RELATIVE, "Tokens per joule, relative to Baseline", "tok/J relative",
           "tokens per joule of the GPUs over that of Baseline in the same episode",
           better=Better.HIGHER),
    Metric(TOKENS_PER_JOULE_SYSTEM_RELATIVE, "Tokens per joule of the node, relative to Baseline",
           "node tok/J relative", "the same with the energy of the node", better=Better.HIGHER),
    Metric(OUTPUT_TOKENS_RELATIVE, "Output tokens, relative to Baseline", "tokens served relative",
           "output tokens over those of Baseline in the same episode", better=Better.HIGHER),
    _rate(WITHIN_BUDGET, "QoS violations, against Baseline within the budget",
          "QoS viol. within budget",
          "as `qos_violation_rate`, against the highest knobs that the power budget leaves instead "
          "of a Baseline that ignores it"),
    Metric(CHANGES_PER_MINUTE, "Knob changes per minute", "knob changes",
           "knob changes over the length of the run", "/ min", better=Better.LOWER),
    Metric(NODE_KWH_PER_MILLION_TOKENS, "Energy of the node per million tokens", "node energy",
           "energy of the node for a million tokens, prompt and output", "kWh/Mtok",
           better=Better.LOWER),
)  # fmt: skip

GROUPS: Mapping[str, Sequence[Metric]] = {
    "Of a run": _RUN,
    "Of a cluster's run, besides": _CLUSTER,
    "Of a comparison, besides": _COMPARED,
}
"""All metrics, by what has them."""
METRICS: Mapping[str, Metric] = {own.key: own for group in GROUPS.values() for own in group}
"""All metrics by key."""


def metrics_of(*keys: str) -> tuple[Metric, ...]:
    """Returns metrics by their keys."""
    return tuple(METRICS[key] for key in keys)


RUN_TABLE = metrics_of(
    "tokens_per_joule", "tokens_per_joule_system", "throughput_tok_s", "power_mean_w",
    "energy_gpu_j", "qos_violation_rate", "qos_violation_rate_backlog",
    "qos_violation_rate_plain", "slo_violation_rate", "ttft_p50_s", "ttft_p99_s", "tpot_p50_s",
    "tpot_p99_s", "power_tracking_error_w", "budget_overshoot_rate", "cap_binding_fraction",
    "knob_changes", "requests_finished", "requests_rejected",
    "budget_mean_w", "power_in_scope_mean_w", "energy_over_budget_j", "infeasible_fraction",
    "down_fraction",
)  # fmt: skip
"""What is shown of one run; the last five are a cluster's."""

COMPARISON_TABLE = metrics_of(
    "tokens_per_joule", TOKENS_PER_JOULE_RELATIVE, "qos_violation_rate", "slo_violation_rate",
    "budget_overshoot_rate", "ttft_p99_s", "tpot_p99_s", "power_mean_w",
)  # fmt: skip
"""What controllers, and the nodes of a cluster, are compared by."""


def applicable(metrics: Sequence[Metric], row: Mapping[str, Any]) -> list[Metric]:
    """Returns the metrics that apply in a row of values by key."""
    return [metric for metric in metrics if row.get(metric.key) is not None]
