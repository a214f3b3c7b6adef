"""Metrics of the nodes of a cluster, by controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Row
from experiments.figures.episodes import FinishedRun

BASELINE = "static"
"""The paper's Baseline: the highest cap, batch 64."""
PLAIN, REFERENCE, BACKLOG = (
    "qos_violation_rate_plain",
    "qos_violation_rate",
    "qos_violation_rate_backlog",
)
DEFINITIONS = (PLAIN, REFERENCE, BACKLOG)
"""The three definitions of a QoS violation: below the target; relative to Baseline's output on
the same arrivals; below the target while work waits."""
_METRICS = (
    *DEFINITIONS,
    "tokens_per_joule",
    "tokens_per_joule_system",
    "throughput_tok_s",
    "target_mean_tok_s",
    "slo_violation_rate",
    "ttft_p99_s",
    "tpot_p99_s",
    "power_mean_w",
)


@dataclass(frozen=True)
class NodeRuns:
    """Runs of one variant, or of several.

    Attributes:
        nodes: Model of each node by the node's name.
        runs: The runs.
    """

    nodes: Mapping[str, str]
    runs: Sequence[FinishedRun]

    def by_node(self, name: str, key: str = PLAIN) -> FloatArray:
        """Returns a metric of a controller's nodes, shape ``(seeds, nodes)``."""
        return np.array(
            [
                [run.summary["nodes"][node][key] or 0.0 for node in self.nodes]
                for run in self.runs
                if run.controller == name
            ]
        )

    def gain(self, name: str, key: str = "tokens_per_joule") -> FloatArray:
        """Returns a controller's metric of the cluster over Baseline's, shape ``(seeds,)``."""
        own = [run.summary[key] for run in self.runs if run.controller == name]
        base = [run.summary[key] for run in self.runs if run.controller == BASELINE]
        return np.asarray(np.array(own) / np.array(base))

    def rows(self) -> list[Row]:
        """Returns the metrics of every run's nodes."""
        return [
            {
                "variant": run.variant,
                "controller": run.controller,
                "seed": run.seed,
                "node": node,
                "model": self.nodes.get(node, node),
                **{key: own[key] for key in _METRICS},
            }
            for run in self.runs
            for node, own in run.summary["nodes"].items()
        ]
