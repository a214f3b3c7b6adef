"""``info`` that is made at the first look is a dictionary like any other."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from envs.factory import make_simulated
from envs.info import Info

CONTENT = {"cost": 1.0, "rewards": {"qos": -1.0}}


def made(calls: list[int] | None = None) -> Info:
    def make() -> dict[str, Any]:
        if calls is not None:
            calls.append(1)
        return dict(CONTENT)

    return Info(make, {"cost": 1.0})


@pytest.mark.parametrize(
    "look",
    [
        lambda info: info["cost"] == 1.0,
        lambda info: info.get("cost") == 1.0,
        lambda info: info.get("none", 5) == 5,
        lambda info: "cost" in info and "none" not in info,
        lambda info: list(info) == ["cost", "rewards"],
        lambda info: list(reversed(info)) == ["rewards", "cost"],
        lambda info: len(info) == 2 and bool(info),
        lambda info: info == CONTENT and CONTENT == info,  # noqa: SIM300 - both ways
        lambda info: (info != CONTENT) is False,
        lambda info: list(info.keys()) == list(CONTENT),
        lambda info: list(info.values()) == list(CONTENT.values()),
        lambda info: list(info.items()) == list(CONTENT.items()),
        lambda info: dict(info) == CONTENT and {**info} == CONTENT,
        lambda info: info | {"x": 1} == {**CONTENT, "x": 1},
        lambda info: {"x": 1} | info == {"x": 1, **CONTENT},
        lambda info: {"x": 1} | dict(info) == {"x": 1, **CONTENT},
        lambda info: repr(info) == repr(CONTENT),
        lambda info: json.dumps(info) == json.dumps(CONTENT),
        lambda info: copy.copy(info) == CONTENT and copy.deepcopy(info) == CONTENT,
        lambda info: pickle.loads(pickle.dumps(info)) == CONTENT,
        lambda info: info.copy() == CONTENT and type(info.copy()) is dict,
        lambda info: info.pop("cost") == 1.0 and len(info) == 1,
        lambda info: info.pop("none", 3) == 3,
        lambda info: info.popitem() == ("rewards", {"qos": -1.0}),
        lambda info: info.setdefault("cost", 7.0) == 1.0,
    ],
)
def test_each_way_to_look_sees_the_content(look: Callable[[Info], bool]) -> None:
    calls: list[int] = []
    info = made(calls)
    assert look(info)
    assert len(info) >= 0
    assert calls == [1], "the content was made more than once"


def test_nothing_is_made_before_the_first_look() -> None:
    calls: list[int] = []
    info = made(calls)
    info["episode"] = {"r": 1.0}
    assert info["episode"] == {"r": 1.0}
    assert calls == []


def test_what_wrappers_write_counts_and_is_kept() -> None:
    info = made()
    info["cost"] = 5.0
    info["TimeLimit.truncated"] = True
    assert info == {**CONTENT, "cost": 5.0, "TimeLimit.truncated": True}
    del info["rewards"]
    assert "rewards" not in info
    info.clear()
    assert info == {}
    with pytest.raises(KeyError):
        info["cost"]


def test_a_late_look_sees_the_interval_of_the_step() -> None:
    """What is looked at an episode later is what an early look saw."""
    late, early = make_simulated(model="gpt2"), make_simulated(model="gpt2")
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 6, (30, 2))
    kept, seen = [], []
    for env in (late, early):
        env.reset(seed=3)
    for action in actions:
        kept.append(late.step(action)[4])
        seen.append(dict(early.step(action)[4]))
    late.reset(seed=4)
    assert [dict(info) for info in kept] == seen
