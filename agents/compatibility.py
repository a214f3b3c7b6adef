"""What a policy's inputs and outputs mean, as plain values that can be stored and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from envs import catalog
from envs.actions.base import ActionEncoding, KnobGrid
from envs.knobs import KnobLimits
from envs.observations import ObservationLayout, Scale


def describe_observation(layout: ObservationLayout) -> list[dict[str, Any]]:
    """Returns the meaning of each entry of an observation.

    Linear scales follow each server's own size and are therefore left out; logarithmic ones
    are the same everywhere and have to stay so.
    """
    return described_scales(layout.scales)


def described_scales(scales: Mapping[str, Scale]) -> list[dict[str, Any]]:
    """Returns the meaning of entries of an observation, by their scales."""
    entries: list[dict[str, Any]] = []
    for name, scale in scales.items():
        entry = {"name": name, "high": scale.high, "unbounded": scale.unbounded}
        if scale.logarithmic:
            entry.update(unit=scale.unit, top=scale.top)
        entries.append(entry)
    return entries


def observation_space(entries: list[dict[str, Any]]) -> gym.spaces.Box:
    """Returns the space of observations that :func:`describe_observation` described."""
    high = np.array([entry["high"] for entry in entries], dtype=np.float32)
    return gym.spaces.Box(np.zeros_like(high), high, dtype=np.float32)


def observation_mismatch(entries: list[dict[str, Any]], layout: ObservationLayout) -> list[str]:
    """Returns a sentence on how a server's observations differ from the described ones."""
    now = {entry["name"]: entry for entry in describe_observation(layout)}
    then = {entry["name"]: entry for entry in entries}
    found = [f"{name} is not observed any more" for name in then if name not in now]
    found += [f"{name} is new" for name in now if name not in then]
    found += [
        f"{name} was scaled as {_scale(then[name])} and is now {_scale(now[name])}"
        for name in then
        if name in now and then[name] != now[name]
    ]
    if not found and list(then) != list(now):
        found = ["the same entries are in another order"]
    return found


def _scale(entry: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in entry.items() if key != "name")


def describe_grid(grid: KnobGrid) -> dict[str, Any]:
    """Returns the part of a grid that a policy depends on: number of caps, batch limits' values."""
    return {
        "power_caps": len(grid.power_caps_w),
        "max_num_seqs": list(grid.max_num_seqs),
        "sm_clocks": len(grid.sm_clocks_mhz),
    }


def bound_encoding(action: dict[str, Any], limits: KnobLimits, grid: KnobGrid) -> ActionEncoding:
    """Builds the action encoding that a policy was trained with, for another server.

    Args:
        action: Configuration of the encoding that the policy was trained with.
        limits: The range of each of the server's knobs.
        grid: The server's grid, whose caps the encoding takes over.
    """
    encoding: ActionEncoding = catalog.build("action", action)
    encoding.power_caps_w = None
    encoding.bind(limits, list(grid.power_caps_w))
    return encoding


def grid_mismatch(described: dict[str, Any], grid: KnobGrid) -> list[str]:
    """Returns a sentence on how a grid differs from the described one."""
    now = describe_grid(grid)
    found = []
    if now["power_caps"] != described["power_caps"]:
        found.append(
            f"it chooses among {described['power_caps']} power caps and this server has "
            f"{now['power_caps']}; name as many with action.power_caps_w=[...]"
        )
    if now["max_num_seqs"] != described["max_num_seqs"]:
        found.append(
            f"it chooses among the batch limits {described['max_num_seqs']} and this server "
            f"allows {now['max_num_seqs']}; raise server.max_num_seqs"
        )
    if now["sm_clocks"] != described["sm_clocks"]:
        found.append(
            f"it was trained with {described['sm_clocks']} clock limits and this server has "
            f"{now['sm_clocks']}; set action.sm_clock and action.sm_clock_levels"
        )
    return found
