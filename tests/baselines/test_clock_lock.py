"""Locking the clock: which clock is chosen, and what is said when there is no such knob."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from baselines.profile import Profile
from envs import catalog
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.knobs import Knobs

MakeContext = Callable[..., ControlContext]


def clock_for(controller: Any, observe: Any, **values: float) -> Knobs:
    knobs, _ = controller.decide(controller.context.layout.decode(observe(**values)), None)
    return knobs  # type: ignore[no-any-return]


def test_without_the_clock_knob_it_says_what_to_set(make_context: MakeContext) -> None:
    with pytest.raises(ConfigurationError, match=r"action\.sm_clock=true"):
        catalog.build("controller", "clock_lock").bind(make_context())


def test_the_lock_is_the_most_efficient_clock_that_is_fast_enough(
    make_context: MakeContext, prepared: Any, observe: Any, profile: Profile
) -> None:
    context = make_context(sm_clock=True)
    controller = prepared({"base": "clock_lock", "max_loss": 0.1, "headroom": 0.2}, context)
    rows = sorted(
        (r.sm_clock_mhz, r.throughput_tok_s, r.power_w)
        for r in profile.rows
        if r.tensor_parallel == 4 and r.max_num_seqs == 64
    )
    clock, throughput, power = np.array(rows).T
    for target in (0.0, 400.0, 1400.0, 1600.0, 9000.0):
        wanted = 0.9 * throughput[-1]
        if target:
            wanted = min(wanted, 1.2 * target)
        choices = [c for c in context.grid.sm_clocks_mhz if c >= clock[0]]
        rate = {c: np.interp(c, clock, throughput) for c in choices}
        watt = {c: np.interp(c, clock, power) for c in choices}
        best = max((c for c in choices if rate[c] >= wanted), key=lambda c: rate[c] / watt[c])
        got = clock_for(controller, observe, target_tok_s=target)
        assert got.sm_clock_mhz == (None if best == 1410.0 else best), target
        assert (got.power_cap_w, got.max_num_seqs) == (400.0, 64)


def test_a_lower_target_never_raises_the_clock(
    make_context: MakeContext, prepared: Any, observe: Any
) -> None:
    controller = prepared("clock_lock", make_context(sm_clock=True))
    clocks = [
        clock_for(controller, observe, target_tok_s=target).sm_clock_mhz or 1410.0
        for target in np.linspace(100, 2000, 20)
    ]
    assert clocks == sorted(clocks)
    assert clocks[0] < clocks[-1]


def test_clocks_the_profile_never_saw_are_not_used(
    make_context: MakeContext, prepared: Any, observe: Any, profile: Profile
) -> None:
    controller = prepared("clock_lock", make_context(sm_clock=True))
    slowest = min(row.sm_clock_mhz for row in profile.rows)
    chosen = clock_for(controller, observe, target_tok_s=1.0).sm_clock_mhz
    assert chosen is not None
    assert chosen >= slowest > 450.0  # the grid has 210 and 450 MHz as well


def test_a_profile_of_another_server_is_named(make_context: MakeContext, profile: Profile) -> None:
    class Other:
        def profile(self) -> Profile:
            return replace(profile, tensor_parallel=8)

    controller = catalog.build("controller", "clock_lock")
    controller.bind(make_context(sm_clock=True))
    with pytest.raises(ConfigurationError, match=r"\(8, 1, 1\)"):
        controller.prepare(Other())


@pytest.mark.parametrize("values", [{"max_loss": 1.0}, {"headroom": -0.1}])
def test_impossible_values_name_their_key(values: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=rf"controller\.{next(iter(values))}"):
        catalog.build("controller", {"base": "clock_lock", **values})
