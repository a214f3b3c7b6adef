"""What an agent remembers: means over the right stretches, of the right servers, and described."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents.memory import Memory, Remembering
from agents.resumable import ResumableVecEnv
from envs.errors import ConfigurationError
from envs.factory import make_simulated_vector

MEMORY = Memory(entries=["running", "power_w"], until_s=[1.0, 2.5])


class Repeating:
    """A policy that does what it is shown."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: Any = 1
    ) -> tuple[Any, None]:
        return observation, None


def test_nothing_is_remembered_unless_it_is_asked_for(server: Any) -> None:
    layout = server.context.layout
    rows = np.random.default_rng(1).uniform(0, 1, (3, 28)).astype(np.float32)
    assert Memory().described(layout) == []
    assert Memory().space(layout) == server.observation_space
    shown, _ = Remembering(Memory(), layout, 0.5).after(rows, None)
    np.testing.assert_array_equal(shown, rows)


def test_entries_are_means_over_stretches_of_the_past(server: Any) -> None:
    """Against the definition: the last 2 observations, then the 3 before, by server and episode."""
    layout = server.context.layout
    policy = Remembering(MEMORY, layout, 0.5).policy(Repeating())
    index = [layout.index(name) for name in MEMORY.entries]
    rows = np.random.default_rng(1).uniform(0, 1, (12, 2, 28)).astype(np.float32)
    begins = np.zeros((12, 2), dtype=bool)
    begins[7, 1] = True
    past = None
    for step in range(12):
        shown, past = policy.predict(rows[step], past, begins[step])
        np.testing.assert_array_equal(shown[:, :28], rows[step])
        for one in range(2):
            first = 7 if one == 1 and step >= 7 else 0
            told = [rows[max(first, step - ago), one][index] for ago in range(5)]
            expected = [*np.mean(told[:2], axis=0), *np.mean(told[2:], axis=0)]
            np.testing.assert_allclose(shown[one, 28:], expected, rtol=1e-6)


def test_one_server_is_remembered_like_one_of_many(server: Any) -> None:
    policy = Remembering(MEMORY, server.context.layout, 0.5).policy(Repeating())
    rows = np.random.default_rng(1).uniform(0, 1, (6, 28)).astype(np.float32)
    one = many = None
    for row in rows:
        alone, one = policy.predict(row, one)
        together, many = policy.predict(row[None], many)
        np.testing.assert_array_equal(alone, together[0])


@pytest.mark.parametrize("interval_s", [0.1, 0.5, 2.0, 60.0])
def test_every_stretch_holds_something_at_any_interval(server: Any, interval_s: float) -> None:
    row = np.full((1, 28), 0.5, dtype=np.float32)
    shown, _ = Remembering(MEMORY, server.context.layout, interval_s).after(row, None)
    np.testing.assert_allclose(shown, 0.5)


def test_its_description_says_all(server: Any) -> None:
    layout = server.context.layout
    described = MEMORY.described(layout)
    assert Memory.of(described) == MEMORY
    assert [(entry["name"], entry["from_s"], entry["to_s"]) for entry in described] == [
        ("running", 0.0, 1.0), ("power_w", 0.0, 1.0), ("running", 1.0, 2.5), ("power_w", 1.0, 2.5),
    ]  # fmt: skip
    high = MEMORY.space(layout).high
    assert high[28] == layout.high[layout.index("running")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"entries": ["nothing"]}, "agent.memory.entries"),
        ({"entries": ["running", "running"]}, "agent.memory.entries"),
        ({"until_s": []}, "agent.memory.until_s"),
        ({"until_s": [5.0, 2.0]}, "agent.memory.until_s"),
        ({"until_s": [1e9]}, "agent.memory.until_s"),
    ],
)
def test_mistakes_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Memory(**given)


def test_servers_show_what_was_before_and_forget_it_with_the_episode() -> None:
    vector = make_simulated_vector(
        3, max_episode_steps=8, duration_s=4.0, autoreset_mode="same_step"
    )
    plain = make_simulated_vector(
        3, max_episode_steps=8, duration_s=4.0, autoreset_mode="same_step"
    )
    servers, beside = ResumableVecEnv(vector, memory=MEMORY), ResumableVecEnv(plain)
    servers.seed(1)
    beside.seed(1)
    at_work = Remembering(MEMORY, vector.contexts[0].layout, vector.interval_s)
    assert servers.observation_space == MEMORY.space(vector.contexts[0].layout)
    expected, past = at_work.after(beside.reset(), None)
    np.testing.assert_array_equal(servers.reset(), expected)
    for step in range(12):
        actions = np.stack([servers.action_space.sample() for _ in range(3)])
        observations, _, ended, infos = servers.step(actions)
        own, _, _, own_infos = beside.step(actions)
        if step == 7:
            assert ended.all()
            last = np.stack([info["terminal_observation"] for info in own_infos])
            shown, _ = at_work.after(last, past)
            for info, row in zip(infos, shown, strict=True):
                np.testing.assert_array_equal(info["terminal_observation"], row)
            past = None
        expected, past = at_work.after(own, past)
        np.testing.assert_array_equal(observations, expected)
