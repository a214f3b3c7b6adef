"""Who does not know the future is not told it: two recordings are the same up to some moment.

They are the same for 10 s, with the same rate and lengths over all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.static import Static
from baselines.twin.unforeseen import Drawn, UnforeseenArrivals
from envs.serving import ServingEnv
from experiments.evaluation.future import future_of

INTERVALS = 18
SEED = 3


@pytest.fixture
def workloads(tmp_path: Path) -> list[dict[str, Any]]:
    early, last = np.arange(0.0, 10.0, 0.2), [40.0]
    found: list[dict[str, Any]] = []
    for from_s in (10.2, 30.0):
        times = np.concatenate([early, np.linspace(from_s, from_s + 4.0, 150), last])
        file = tmp_path / f"{from_s}.csv"
        file.write_text(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            + "".join(f"2023-11-16 18:00:{time:09.6f},300,200\n" for time in times)
        )
        found.append({"base": "azure_conv", "path": str(file)})
    return found


def drawn(env: ServingEnv) -> Drawn:
    """Returns what is drawn after the first intervals under Baseline."""
    context = env.context
    caps_w = np.full((1, 120), context.highest.power_cap_w)
    unforeseen = UnforeseenArrivals(context, [future_of(env, SEED)], caps_w, 4, seed=0)
    static = Static()
    static.bind(context)
    observation, _ = env.reset(seed=SEED)
    for interval in range(INTERVALS):
        action, _ = static.predict(observation)
        observation = env.step(action)[0]
        unforeseen.follow(context.layout.decode(observation[None]), interval)
    return unforeseen.draw(INTERVALS, 20)


def test_what_is_drawn_does_not_hang_on_what_is_yet_to_come(
    prepared_env: Any, workloads: list[dict[str, Any]]
) -> None:
    soon, later = (drawn(prepared_env("static", workload=workload)[0]) for workload in workloads)
    np.testing.assert_array_equal(soon.baseline_tokens, later.baseline_tokens)
    for one, other in zip(soon.coming, later.coming, strict=True):
        np.testing.assert_array_equal(one.arrival_time_s, other.arrival_time_s)


@pytest.mark.parametrize("samples", [4, 0])
def test_what_is_planned_hangs_on_what_is_yet_to_come_only_where_that_is_known(
    prepared_env: Any, small_search: dict[str, int], workloads: list[dict[str, Any]], samples: int
) -> None:
    decided = []
    for workload in workloads:
        env, controller = prepared_env(
            {"base": "clairvoyant", "search": small_search, "arrival_samples": samples},
            workload=workload,
        )
        observation, _ = env.reset(seed=SEED)
        state = None
        for interval in range(INTERVALS):
            action, state = controller.predict(observation, state, np.array([interval == 0]))
            observation = env.step(action)[0]
        decided.append(state.decision)
    soon, later = decided
    assert np.array_equal(soon.observed, later.observed) == (samples > 0)
    assert np.array_equal(soon.plans, later.plans) == (samples > 0)
