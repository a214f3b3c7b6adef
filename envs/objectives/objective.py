"""Objectives: the demands on a server over an episode, as a table of conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.fields import Checked, OneOf, Part
from envs.objectives.conditions import Conditions
from envs.objectives.qos import QoSConfig
from envs.objectives.signals import Signal, as_signal
from envs.quantities import Seconds
from envs.system import RatedServer

TARGET_UNITS = ("offered", "capacity", "tok_s")
BUDGET_UNITS = ("fraction", "w")
POWER_SCOPES = ("gpu", "system")


@dataclass(kw_only=True)
class Objective(Checked):
    """Targets, budgets and latency SLOs, fixed or moving; a number is a constant signal.

    Attributes:
        target: Throughput target over time (output tokens); ``None`` for no target.
        target_unit: What the target is a multiple of: ``offered`` (the workload's offered
            load, at most the capacity), ``capacity`` (Baseline's saturated throughput) or
            ``tok_s`` (plain tokens per second).
        power_budget: Power budget over time; ``None`` for no budget.
        power_budget_unit: ``fraction`` of the highest power (all GPUs at their highest cap,
            plus the node's overhead when the scope is ``system``) or ``w`` (watts).
        power_scope: ``gpu``: the budget covers the GPUs; ``system``: the whole node
            (arXiv:2605.21427 §3.1).
        ttft_slo_s: Longest acceptable time to first token in seconds; ``None`` for none.
        tpot_slo_s: Longest acceptable time per output token in seconds; ``None`` for none.
        carbon_g_kwh: Carbon intensity over time; ``None`` when it is not considered.
        price_per_kwh: Electricity price over time; ``None`` when it is not considered.
        qos: How throughput is evaluated against the target.
    """

    config_key: ClassVar[str] = "objective"

    target: Annotated[Any, Part("signal")] = None
    target_unit: Annotated[str, OneOf(*TARGET_UNITS)] = "offered"
    power_budget: Annotated[Any, Part("signal")] = None
    power_budget_unit: Annotated[str, OneOf(*BUDGET_UNITS)] = "fraction"
    power_scope: Annotated[str, OneOf(*POWER_SCOPES)] = "gpu"
    ttft_slo_s: Seconds | None = None
    tpot_slo_s: Seconds | None = None
    carbon_g_kwh: Annotated[Any, Part("signal")] = None
    price_per_kwh: Annotated[Any, Part("signal")] = None
    qos: QoSConfig = field(default_factory=QoSConfig)

    def __post_init__(self) -> None:
        """Checks that signals are signals, and that none falls below 0 where that means nothing.

        Raises:
            ConfigurationError: One does.
        """
        super().__post_init__()
        for key in ("target", "power_budget", "carbon_g_kwh", "price_per_kwh"):
            signal = as_signal(getattr(self, key))
            setattr(self, key, signal)
            self.require(signal is None or isinstance(signal, Signal), key, "be a signal")
            lowest = None if signal is None else signal.lowest()
            if key != "price_per_kwh":  # electricity can have a negative price
                self.require(lowest is None or lowest >= 0, key, f"be >= 0, not {lowest}")

    def schedule(
        self,
        system: RatedServer,
        rng: np.random.Generator,
        intervals: int,
        interval_s: float,
    ) -> NDArray[np.float64]:
        """Returns the conditions of every interval of an episode.

        Args:
            system: The server, for its capacity, offered load and highest power.
            rng: Source of the random draws of random signals.
            intervals: Number of control intervals.
            interval_s: Length of an interval in seconds.

        Returns:
            Array of shape ``(intervals, len(Conditions._fields))`` in the order of
            :class:`~envs.objectives.conditions.Conditions`.
        """
        times = np.arange(intervals, dtype=np.float64) * interval_s
        target_unit = {
            "offered": min(system.offered_tok_s, system.capacity_tok_s),
            "capacity": system.capacity_tok_s,
            "tok_s": 1.0,
        }[self.target_unit]
        budget_unit = highest_power_w(system, self.power_scope)
        if self.power_budget_unit == "w":
            budget_unit = 1.0
        unlimited = float("inf")

        def column(signal: Signal | None, unit: float, otherwise: float) -> Any:
            return otherwise if signal is None else signal.values(times, rng) * unit

        table = np.empty((intervals, len(Conditions._fields)))
        table[:, 0] = column(self.target, target_unit, 0.0)
        table[:, 1] = column(self.power_budget, budget_unit, unlimited)
        table[:, 2] = unlimited if self.ttft_slo_s is None else self.ttft_slo_s
        table[:, 3] = unlimited if self.tpot_slo_s is None else self.tpot_slo_s
        table[:, 4] = column(self.carbon_g_kwh, 1.0, 0.0)
        table[:, 5] = column(self.price_per_kwh, 1.0, 0.0)
        return table


def highest_power_w(system: RatedServer, scope: str) -> float:
    """Returns the power in watts of a budget of 100 %."""
    gpus = system.num_gpus * system.knob_limits.power_cap_max_w
    return float(power_in_scope(gpus, scope, system.system_power))


def power_in_scope(gpu_power_w: Any, scope: str, system_power: tuple[float, float]) -> Any:
    """Returns the power a budget covers, given the power of all GPUs (watts)."""
    alpha, beta_w = system_power
    return gpu_power_w if scope == "gpu" else alpha * gpu_power_w + beta_w


def cap_within_budget(
    budget_w: Any, scope: str, num_gpus: int, system_power: tuple[float, float]
) -> Any:
    """Returns the highest cap per GPU (watts) whose GPUs together stay within a budget."""
    alpha, beta_w = system_power
    gpus = budget_w if scope == "gpu" else (budget_w - beta_w) / alpha
    return gpus / num_gpus
