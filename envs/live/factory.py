"""Builds the environment around a live server: what ``pals/VLLM-v0`` is made of."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs import catalog
from envs.actions.base import PAPER_BATCHES, ActionEncoding
from envs.errors import ConfigurationError
from envs.live.config import VllmServerConfig
from envs.live.server import LiveServer
from envs.scenario import Scenario
from envs.serving import ServingEnv

_LOG = logging.getLogger(__name__)
_SAME_W = 1.0
"""Caps that differ by less are the same."""
_CAPS = 6
"""Caps to choose from where neither the server nor the GPU type names any (the paper's number)."""


class LiveServingEnv(ServingEnv):
    """The environment around a live server; spaces, rewards and ``info`` as in simulation."""

    _ready = False

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode on the live server.

        Raises:
            ConfigurationError: The server's capacity is not known, so observations have no
                scale.
            PalsError: The server failed.
        """
        if math.isnan(self.system.capacity_tok_s):
            raise ConfigurationError(
                "server.capacity_tok_s: not known, and observations and targets are measured "
                "by it. A run never profiles a live server by itself; do it with\n"
                "    python -m experiments.profile server=...\n"
                "and name the result with profile.path=/path/to/profile.json, or set "
                "server.capacity_tok_s"
            )
        self._load_compiled_code()
        return super().reset(seed=seed, options=options)

    def _load_compiled_code(self) -> None:
        """Follows a made-up interval, so that the first decision is not late.

        Compiled code takes a second to load, and once an episode has begun the clock runs.
        """
        if not self._ready:
            self._loop.reset(0, self.planner.plan(0))
            self._loop.ask(self._requested)
            self._loop.follow()
            self._ready = True


def make_live(render_mode: str | None = None, **parts: Any) -> ServingEnv:
    """Builds an environment around a live vLLM server (``pals/VLLM-v0``).

    Args:
        render_mode: ``rgb_array``, ``human`` or ``None``.
        **parts: Parts of a :class:`~envs.scenario.Scenario`; ``server`` is a
            :class:`~envs.live.config.VllmServerConfig`, and ``gpu`` may be left out.

    Raises:
        PalsError: The configuration is wrong, or server or device are not to be had.
    """
    return live_env(
        Scenario.of(**{"model": None, "gpu": None, "server": "vllm", **parts}), render_mode
    )


make_live.metadata = ServingEnv.metadata  # type: ignore[attr-defined]  # Gymnasium looks here


def live_env(scenario: Scenario, render_mode: str | None = None) -> ServingEnv:
    """Builds the environment around a scenario's live server.

    The server is attached to, or started, before this returns; ``close()`` puts everything
    back. ``gpu`` gives the caps to choose from when ``server.power_caps_w`` names none; the
    workload ``external`` sends no requests.

    Args:
        scenario: The scenario.
        render_mode: ``rgb_array``, ``human`` or ``None``.

    Raises:
        PalsError: The configuration is wrong, or server or device are not to be had.
    """
    parts = {
        "objective": catalog.build("objective", scenario.objective),
        "encoding": catalog.build("action", scenario.action),
        "reward": catalog.build("reward", scenario.reward),
    }
    config: VllmServerConfig = catalog.build("server", scenario.server)
    system = LiveServer(config, catalog.build("workload", scenario.workload))
    try:
        parts["encoding"] = _with_batch_limits(parts["encoding"], system)
        return LiveServingEnv(
            system,
            **parts,
            interval_s=scenario.interval_s,
            horizon_s=scenario.duration_s,
            power_caps_w=_caps(system, config.power_caps_w, scenario.gpu),
            render_mode=render_mode,
        )
    except BaseException:
        system.close()
        raise


def _with_batch_limits(encoding: ActionEncoding, system: LiveServer) -> ActionEncoding:
    """Returns an encoding with the limit found among its levels, so that it can be held."""
    found = system.knob_limits.max_num_seqs
    if system.config.batch_limit == "off":  # one level: the one that holds
        return replace(encoding, max_num_seqs=[found])
    levels = sorted(level for level in encoding.max_num_seqs if level <= found)
    if found in levels:
        return encoding
    if encoding.max_num_seqs == list(PAPER_BATCHES):  # nobody asked for just these
        _LOG.info("action.max_num_seqs: %d, the batch limit found, is a level, too", found)
        return replace(encoding, max_num_seqs=[*levels, found])
    if levels:
        _LOG.warning(
            "action.max_num_seqs: the batch limit found, %d, is none of the levels asked for; the "
            "highest that controllers choose is %d", found, levels[-1],
        )  # fmt: skip
    return encoding


def _caps(system: LiveServer, named: list[float] | None, gpu: Any) -> list[float]:
    """Returns the caps that controllers choose from, ascending, the highest allowed among them."""
    low, high = system.knob_limits.power_cap_min_w, system.knob_limits.power_cap_max_w
    if named is not None:
        outside = [cap for cap in named if not low <= cap <= high]
        if outside:
            raise ConfigurationError(
                f"server.power_caps_w: {outside[0]:g} W is outside {low:g}..{high:g} W; no cap "
                "is set above the one found, unless server.cap_ceiling_w allows it"
            )
        if max(named) < high - _SAME_W:
            _LOG.warning(
                "server.power_caps_w: the cap found or allowed, %g W, is none of the caps named; "
                "the highest that controllers choose is %g W", high, max(named),
            )  # fmt: skip
        return sorted(named)
    known = [] if gpu is None else catalog.build("gpu", gpu).power_caps_w
    usable = sorted(cap for cap in known if low <= cap <= high)
    if usable and usable[-1] < high - _SAME_W:
        _LOG.info("server.power_caps_w: %g W, the cap found or allowed, is a level, too", high)
        usable.append(high)
    return usable or np.linspace(low, high, _CAPS).tolist()
