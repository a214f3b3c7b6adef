"""What a controller knows about its server before the first decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envs.actions.base import ActionEncoding, KnobGrid
from envs.knobs import KnobLimits, Knobs
from envs.objectives.objective import cap_within_budget
from envs.objectives.qos import QoSConfig
from envs.observations import ObservationLayout


@dataclass(frozen=True)
class ControlContext:
    """Facts an operator knows about a server; the same for every controller and agent.

    Attributes:
        layout: Decodes observations by name.
        encoding: Turns knobs into actions and back.
        limits: The range of each knob.
        interval_s: Time between two decisions in seconds.
        num_gpus: GPUs of the server.
        capacity_tok_s: Baseline's saturated throughput in output tokens/s.
        offered_tok_s: Output tokens/s that the workload offers on average.
        system_power: ``(alpha, beta_w)`` of the node's power.
        power_scope: What a power budget covers, ``gpu`` or ``system``.
        qos: How throughput is evaluated.
    """

    layout: ObservationLayout
    encoding: ActionEncoding
    limits: KnobLimits
    interval_s: float
    num_gpus: int
    capacity_tok_s: float
    offered_tok_s: float
    system_power: tuple[float, float]
    power_scope: str
    qos: QoSConfig

    @property
    def grid(self) -> KnobGrid:
        """The grid of knobs that all controllers choose from."""
        return self.encoding.grid

    @property
    def highest(self) -> Knobs:
        """Baseline's knobs: highest cap and batch limit of the grid, free clock."""
        return Knobs(self.grid.power_caps_w[-1], self.grid.max_num_seqs[-1], None)

    def cap_limit_w(self, budget_w: Any) -> Any:
        """Returns the highest cap per GPU (watts) that keeps the GPUs within a budget."""
        return cap_within_budget(budget_w, self.power_scope, self.num_gpus, self.system_power)
