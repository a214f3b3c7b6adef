"""The demands on a server during one control interval."""

from __future__ import annotations

from typing import Any, NamedTuple


class Conditions(NamedTuple):
    """Demands that hold for one control interval.

    For a vector of servers each field holds an array of shape ``(num_envs,)``.

    Attributes:
        target_tok_s: Target in output tokens per second; 0 when there is no target.
        power_budget_w: Power budget in watts over the scope that the objective names
            (all GPUs, or the whole node); ``inf`` when there is none.
        ttft_slo_s: Longest acceptable time to first token in seconds; ``inf`` when none.
        tpot_slo_s: Longest acceptable time per output token in seconds; ``inf`` when none.
        carbon_g_kwh: Carbon intensity of the electricity in gCO2/kWh; 0 when not given.
        price_per_kwh: Price of the electricity per kWh; 0 when not given.
    """

    target_tok_s: Any = 0.0
    power_budget_w: Any = float("inf")
    ttft_slo_s: Any = float("inf")
    tpot_slo_s: Any = float("inf")
    carbon_g_kwh: Any = 0.0
    price_per_kwh: Any = 0.0
