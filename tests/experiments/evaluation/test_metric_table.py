"""The metric table knows every metric of a run, and the page of metrics is made from it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from experiments import list_metrics
from experiments.cluster.metrics import ClusterMetrics, NodeMetrics
from experiments.evaluation.batched_rollout import EpisodeMetrics
from experiments.evaluation.metric_table import GROUPS, METRICS, Better
from experiments.evaluation.metrics import RunMetrics

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
NOT_NUMBERS = {"events", "nodes"}


@pytest.mark.parametrize("metrics", [RunMetrics, EpisodeMetrics, NodeMetrics, ClusterMetrics])
def test_every_metric_is_described(metrics: type[RunMetrics]) -> None:
    assert {item.name for item in fields(metrics)} - NOT_NUMBERS <= set(METRICS)


def test_no_key_is_there_twice() -> None:
    assert sum(len(group) for group in GROUPS.values()) == len(METRICS)


def test_the_page_is_current() -> None:
    """Write it again with ``python -m experiments.list_metrics > docs/metrics.md``."""
    assert PAGE.read_text(encoding="utf-8") == list_metrics.page()


def test_values_are_shown_in_the_unit() -> None:
    assert METRICS["qos_violation_rate"].text(0.0312) == "3.12"
    assert METRICS["tpot_p99_s"].text(0.03456) == "34.56"
    assert METRICS["knob_changes"].text(12) == "12"
    assert METRICS["energy_gpu_j"].text(2_500_000.0) == "2,500"
    assert METRICS["ttft_p99_s"].text(None) == "–"
    assert METRICS["tpot_p99_s"].head == "TPOT p99 ms"


def test_the_worst_follows_the_direction() -> None:
    assert METRICS["tokens_per_joule_relative"].better is Better.HIGHER
    assert METRICS["tokens_per_joule_relative"].worst([1.2, 0.9]) == 0.9
    assert METRICS["qos_violation_rate"].worst([0.1, 0.3]) == 0.3
