"""The range of each knob: never above what was found, unless the operator says so knowingly."""

from __future__ import annotations

from typing import Any

from envs.errors import ConfigurationError
from envs.knobs import KnobLimits
from envs.live.config import VllmServerConfig
from envs.live.devices.base import PowerDevice


def knob_limits(
    config: VllmServerConfig, device: PowerDevice, found: dict[str, Any] | None
) -> KnobLimits:
    """Returns the range of each knob.

    A cap below the device's highest may be what a breaker, a rack or an operator allows, and a
    batch limit below the server's may be an operator's decision. Both are ceilings, therefore.

    Args:
        config: The server; ``cap_ceiling_w`` and ``max_num_seqs_ceiling`` raise the ceilings.
        device: The power device, open, not yet in our control.
        found: The limits in force as the plug-in tells them; ``None`` if nobody tells.

    Raises:
        ConfigurationError: Floor and ceiling contradict each other or the device.
    """
    low, high = _caps(config, device)
    limits = device.limits
    return KnobLimits(
        power_cap_min_w=low,
        power_cap_max_w=high,
        max_num_seqs=config.max_num_seqs if found is None else _batch(config, found),
        sm_clock_min_mhz=limits.clock_min_mhz,
        sm_clock_max_mhz=limits.clock_max_mhz,
    )


def _caps(config: VllmServerConfig, device: PowerDevice) -> tuple[float, float]:
    limits = device.limits
    low = limits.cap_min_w if config.cap_floor_w is None else config.cap_floor_w
    low = max(low, limits.cap_min_w)
    high = device.cap_found_w if config.cap_ceiling_w is None else config.cap_ceiling_w
    if high > limits.cap_max_w:
        raise ConfigurationError(
            f"server.cap_ceiling_w: {high:g} W is above the device's highest cap, "
            f"{limits.cap_max_w:g} W"
        )
    if low > high:
        found = "" if config.cap_ceiling_w is not None else (
            " (the cap found on the device; server.cap_ceiling_w allows a higher one)"
        )  # fmt: skip
        raise ConfigurationError(
            f"server.cap_floor_w: {low:g} W is above the highest cap, {high:g} W{found}"
        )
    return low, high


def _batch(config: VllmServerConfig, found: dict[str, Any]) -> int:
    if config.batch_limit == "off":
        return int(found["max_num_seqs"])
    started_with = int(found["ceiling_num_seqs"])
    for key in ("max_num_seqs", "max_num_seqs_ceiling"):
        asked = getattr(config, key)
        if asked is not None and asked > started_with:
            raise ConfigurationError(
                f"server.{key}: {asked} is more than the server was started with ({started_with})"
            )
    ceiling = config.max_num_seqs_ceiling
    return min(config.max_num_seqs, int(found["max_num_seqs"]) if ceiling is None else ceiling)
