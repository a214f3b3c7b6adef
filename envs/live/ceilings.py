"""The range of each knob: never above what was found, unless the operator says so knowingly."""

from __future__ import annotations

import logging
from typing import Any

from envs.errors import ConfigurationError
from envs.knobs import KnobLimits
from envs.live.config import DEFAULT_MAX_NUM_SEQS, VllmServerConfig
from envs.live.devices.base import PowerDevice

_LOG = logging.getLogger(__name__)


def knob_limits(
    config: VllmServerConfig, device: PowerDevice, told: dict[str, Any] | None, found: int | None
) -> KnobLimits:
    """Returns the range of each knob.

    A cap below the device's highest may be what a breaker, a rack or an operator allows, and a
    batch limit below the server's may be an operator's decision. Both are ceilings, therefore.

    Args:
        config: The server; ``cap_ceiling_w`` and ``max_num_seqs_ceiling`` raise the ceilings.
        device: The power device, open, not yet in our control.
        told: The limits in force as the server tells them; ``None`` if it does not.
        found: The batch limit that an operator left, likewise.

    Raises:
        ConfigurationError: Floor and ceiling contradict each other or the device.
    """
    low, high = _caps(config, device)
    limits = device.limits
    return KnobLimits(
        power_cap_min_w=low,
        power_cap_max_w=high,
        max_num_seqs=_batch(config, told, found),
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


def _batch(config: VllmServerConfig, told: dict[str, Any] | None, found: int | None) -> int:
    """Returns the highest batch limit, which is the server's own matter first of all."""
    asked, ceiling = config.max_num_seqs, config.max_num_seqs_ceiling
    if told is None or found is None:
        return asked or DEFAULT_MAX_NUM_SEQS
    if config.batch_limit == "off" or not config.sets_knobs:
        return found
    started_with = int(told["ceiling_num_seqs"])
    if ceiling is not None and ceiling > started_with:
        raise ConfigurationError(
            f"server.max_num_seqs_ceiling: {ceiling} is more than the server was started with "
            f"({started_with}); set server.max_num_seqs_ceiling={started_with}"
        )
    if asked is not None and asked > started_with:
        raise ConfigurationError(
            f"server.max_num_seqs: {asked} is more than the server was started with "
            f"({started_with}); leave it out, or set server.max_num_seqs={started_with}"
        )
    highest = found if ceiling is None else ceiling
    if asked is not None and asked < highest:
        _LOG.warning(
            "server.max_num_seqs: %d is below the batch limit found, %d, and is the most that is "
            "set", asked, highest,
        )  # fmt: skip
        return asked
    return highest
