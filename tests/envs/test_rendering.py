"""What is shown of an environment: frames, videos, a window, or lines where there is none."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo

import envs  # noqa: F401 - registers the environments
from envs.errors import ConfigurationError

PARTS: dict[str, Any] = {
    "model": "olmoe_1b_7b",
    "server": {"base": "simulated", "tensor_parallel": 1},
}


def made(mode: str | None, **parts: Any) -> Any:
    return gymnasium.make("pals/Simulated-v0", render_mode=mode, **PARTS, **parts)


def recording(folder: Path) -> Any:
    return RecordVideo(made("rgb_array"), str(folder), episode_trigger=lambda number: True)


def test_frames_show_the_episode() -> None:
    env = made("rgb_array", objective="power_budget")
    env.reset(seed=1)
    empty = env.render()
    assert empty.shape == (480, 640, 3)
    assert empty.dtype == np.uint8
    for _ in range(30):
        env.step(env.action_space.sample())
    later = env.render()
    assert (later != empty).any(axis=2).sum() > 1000  # lines where nothing was
    env.step(env.action_space.sample())
    assert (env.render() != later).any()
    env.reset(seed=1)
    np.testing.assert_array_equal(env.render(), empty)
    env.close()


def test_a_rendered_episode_is_the_same_episode() -> None:
    plain, watched = made(None), made("rgb_array")
    for env in (plain, watched):
        env.reset(seed=4)
    for action in ([0, 0], [5, 5], [2, 3]):
        ours, theirs = plain.step(np.array(action)), watched.step(np.array(action))
        watched.render()
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]


def test_copies_draw_for_themselves() -> None:
    env = made("rgb_array").unwrapped
    env.reset(seed=1)
    for _ in range(5):
        env.step(env.action_space.sample())
    frame = env.render()
    clone, deep = env.clone(), copy.deepcopy(env)
    np.testing.assert_array_equal(clone.render(), frame)
    np.testing.assert_array_equal(deep.render(), frame)
    clone.step(np.array([0, 0]))
    np.testing.assert_array_equal(env.render(), frame)
    assert (clone.render() != frame).any()


def test_a_cluster_shows_its_nodes_side_by_side() -> None:
    env = gymnasium.make("pals/Cluster-v0", render_mode="rgb_array", budget=3000.0)
    env.reset(seed=1)
    empty: Any = env.render()
    assert empty.shape == (480, 3 * 640, 3)
    for _ in range(10):
        env.step(env.action_space.sample())
    later: Any = env.render()
    for node in range(3):
        part = slice(640 * node, 640 * (node + 1))
        assert (later[:, part] != empty[:, part]).any(axis=2).sum() > 300
    env.close()


def test_lists_of_frames_are_collected() -> None:
    env = made("rgb_array_list")
    env.reset(seed=1)
    env.step(env.action_space.sample())
    assert len(env.render()) == 2


@pytest.mark.long
def test_videos_are_recorded(tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason="videos need moviepy: pip install 'gymnasium[other]'")
    env = RecordVideo(
        made("rgb_array"), str(tmp_path / "videos"), episode_trigger=lambda number: True
    )
    env.reset(seed=1)
    for _ in range(20):
        env.step(env.action_space.sample())
    env.close()
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert video.stat().st_size > 5_000
    assert video.read_bytes()[4:8] == b"ftyp"


def test_frames_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What RecordVideo hands to moviepy, without the encoding."""
    written: list[Any] = []

    class Clip:
        def __init__(self, frames: list[Any], fps: float) -> None:
            self.frames, self.fps = list(frames), fps

        def write_videofile(self, path: str, logger: Any = None) -> None:
            written.append((Path(path), self.frames, self.fps))

    for name in ("moviepy", "moviepy.video", "moviepy.video.io"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    module = ModuleType("moviepy.video.io.ImageSequenceClip")
    module.ImageSequenceClip = Clip  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    env = RecordVideo(
        made("rgb_array"), str(tmp_path / "videos"), episode_trigger=lambda number: True
    )
    env.reset(seed=1)
    for _ in range(3):
        env.step(env.action_space.sample())
    env.close()
    ((path, frames, fps),) = written
    assert path.suffix == ".mp4"
    assert len(frames) == 4
    assert fps == 20


def test_people_without_a_display_get_lines(capfd: pytest.CaptureFixture[str]) -> None:
    env = made("human")
    env.reset(seed=1)
    env.step(np.array([5, 5]))
    env.step(np.array([5, 5]))
    assert env.render() is None
    env.close()
    lines = [line for line in capfd.readouterr().err.splitlines() if "tok/s" in line]
    assert len(lines) == 2
    assert lines[1].split()[:2] == ["1.0", "s"]
    assert " W" in lines[1]
    assert "batch " in lines[1]


def test_people_with_a_display_get_a_window(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import matplotlib.pyplot as plt

    monkeypatch.setattr("envs.rendering._has_windows", lambda: True)
    before = set(plt.get_fignums())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.show", lambda self: shown.append(self))
        shown: list[Any] = []
        env = made("human")
        env.reset(seed=1)
        for _ in range(3):
            env.step(np.array([5, 5]))
    (window,) = shown
    assert len(window.axes[0].lines[0].get_xdata()) == 3
    env.close()
    assert set(plt.get_fignums()) == before
    assert "tok/s" not in capfd.readouterr().err


def test_a_mode_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'rgb_array'"):
        envs_mode("rgb_arrray")


def envs_mode(mode: str) -> Any:
    from envs.factory import make_simulated

    return make_simulated(mode, **PARTS)


def test_rendering_without_a_mode_says_so() -> None:
    env = made(None).unwrapped
    env.reset(seed=1)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


def test_a_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match=r"pals-gym\[plot\]"):
        envs_mode("rgb_array")
