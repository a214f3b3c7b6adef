"""Makes one interval's telemetry of what the server, the client and the device tell."""

from __future__ import annotations

from typing import Any

from envs.live.accounting import Accounts, IntervalAccount, summary
from envs.live.metrics import Snapshot
from envs.live.sampler import IntervalPower


def server_fields(now: Snapshot, added: Snapshot) -> dict[str, Any]:
    """Returns the fields that the server itself tells."""
    return {
        "prompt_tokens": added.counters.get("prompt_tokens", 0.0),
        "output_tokens": added.counters["output_tokens"],
        "preemptions": added.counters.get("preemptions", 0.0),
        "prefix_cache_queries": added.counters.get("prefix_cache_queries", 0.0),
        "prefix_cache_hits": added.counters.get("prefix_cache_hits", 0.0),
        "running": now.gauges["running"],
        "waiting": now.gauges["waiting"],
        "kv_cache_usage": now.gauges.get("kv_cache_usage", 0.0),
    }


def client_fields(account: IntervalAccount, accounts: Accounts, now_s: float) -> dict[str, Any]:
    """Returns the fields that our own requests tell, by the client's clock."""
    ages = accounts.ages_s(now_s)
    return {
        "arrivals": account.arrivals,
        "finished": account.finished,
        "rejected": account.rejected,
        "prefill_backlog_tokens": accounts.prompt_backlog,
        "oldest_wait_s": ages[0] if ages else 0.0,
        "slo_missed": account.slo_missed,
        "slo_overdue": accounts.overdue(now_s),
        **summary("ttft", account.ttft_s + ages),
        **summary("tpot", account.tpot_s),
        **summary("e2e", account.e2e_s),
    }


def power_fields(
    power: IntervalPower, duration_s: float, system_power: tuple[float, float]
) -> dict[str, Any]:
    """Returns the fields that the power device tells."""
    alpha, beta_w = system_power
    return {
        "power_w": sum(power.power_w),
        "gpu_power_w": power.power_w,
        "energy_gpu_j": power.energy_j,
        "energy_system_j": alpha * power.energy_j + beta_w * duration_s,
        "sm_clock_mhz": power.sm_clock_mhz,
        "cap_binding": power.cap_binding,
        "power_cap_w": power.cap_w,
    }
