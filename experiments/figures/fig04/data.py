"""Full servers over several nodes, relative to one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Row
from experiments.figures.claims import interval_of
from experiments.figures.grid import SteadyStates
from experiments.figures.operating_point import OperatingPoint

LAYOUTS = {
    "spread": "experts over all nodes, a full batch per node",
    "spread, one batch": "experts over all nodes, one batch shared by the nodes",
    "replicas": "whole replicas, a full batch per node",
    "replicas, one batch": "whole replicas, one batch shared by the nodes",
}
"""How several nodes divide the work."""


@dataclass(frozen=True)
class NodeSweep:
    """The operating points of several nodes.

    Attributes:
        gpu: GPU type.
        models: Models.
        nodes: Numbers of nodes.
        tensor: Tensor-parallel size within a node.
        cap_w: Power cap.
        batch: Batch limit.
        layout: The layout of the claims; one of :data:`LAYOUTS`.
        lengths: Request lengths.
        other_lengths: Further request lengths.
        experts_within_node: Whether experts are spread within a node as well (figure 5).
    """

    gpu: str
    models: Sequence[str]
    nodes: Sequence[int]
    tensor: int
    cap_w: float
    batch: int
    layout: str
    lengths: str
    other_lengths: Sequence[str]
    experts_within_node: bool

    def points(self) -> list[OperatingPoint]:
        """Returns all points: every model, number of nodes, layout and request lengths."""
        return [
            self.point(model, nodes, layout, lengths)
            for model in self.models
            for nodes in self.nodes
            for layout in LAYOUTS
            for lengths in [self.lengths, *self.other_lengths]
        ]

    def own_points(self) -> list[OperatingPoint]:
        """Returns the points with the layout and the request lengths of the claims."""
        return [
            self.point(model, nodes, self.layout, self.lengths)
            for model in self.models
            for nodes in self.nodes
        ]

    def point(self, model: str, nodes: int, layout: str, lengths: str) -> OperatingPoint:
        """Returns the point of a model on some nodes."""
        batch = max(1, self.batch // nodes) if "one batch" in layout else self.batch
        return OperatingPoint(
            model,
            self.cap_w,
            batch,
            tensor=self.tensor,
            expert=self._expert_parallel(nodes, layout),
            data=nodes,
            lengths=lengths,
            gpu=self.gpu,
        )

    def _expert_parallel(self, nodes: int, layout: str) -> int:
        """Within one node tensor parallelism alone splits the experts, except in figure 5."""
        if not self.experts_within_node and nodes == 1:
            return 1
        if layout.startswith("spread"):
            return self.tensor * nodes
        return self.tensor if self.experts_within_node else 1


@dataclass(frozen=True)
class NodeScaling:
    """Measured efficiency and throughput.

    Attributes:
        sweep: The operating points.
        states: What was measured at them.
    """

    sweep: NodeSweep
    states: SteadyStates

    def efficiency(
        self,
        model: str,
        layout: str | None = None,
        lengths: str | None = None,
        count: str = "total",
        scope: str = "gpu",
    ) -> FloatArray:
        """Returns tokens per joule relative to one node, shape ``(nodes, seeds)``."""
        points = self._points(model, layout, lengths)
        values = np.array([self.states[point].per_joule(count, scope) for point in points])
        return np.asarray(values / values[0])

    def throughput(self, model: str, layout: str | None = None) -> FloatArray:
        """Returns tokens per second relative to one node, shape ``(nodes, seeds)``."""
        points = self._points(model, layout, None)
        values = np.array([self.states[point].tokens_per_s() for point in points])
        return np.asarray(values / values[0])

    def _points(self, model: str, layout: str | None, lengths: str | None) -> list[OperatingPoint]:
        sweep = self.sweep
        chosen = (layout or sweep.layout, lengths or sweep.lengths)
        return [sweep.point(model, nodes, *chosen) for nodes in sweep.nodes]

    def change(self, model: str) -> FloatArray:
        """Returns the relative change of tokens per joule to the most nodes, per seed."""
        return np.asarray(self.efficiency(model)[-1] - 1.0)

    def rows(self) -> list[Row]:
        """Returns every model, layout and number of nodes."""
        rows: list[Row] = []
        for model in self.sweep.models:
            for layout in LAYOUTS:
                ratio = self.efficiency(model, layout)
                system = self.efficiency(model, layout, scope="system")
                rate = self.throughput(model, layout)
                for index, nodes in enumerate(self.sweep.nodes):
                    own = interval_of(ratio[index])
                    rows.append(
                        {
                            "model": model,
                            "nodes": nodes,
                            "layout": layout,
                            "tokens_per_joule_relative": own.value,
                            "tokens_per_joule_relative_low": own.low,
                            "tokens_per_joule_relative_high": own.high,
                            "tokens_per_joule_system_relative": interval_of(system[index]).value,
                            "throughput_relative": interval_of(rate[index]).value,
                        }
                    )
        return rows
