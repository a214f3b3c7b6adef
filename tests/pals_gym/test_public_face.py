"""The public face: its names, its weight, and environments that need no other import."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pals_gym
from pals_gym import _HOMES

ROOT = Path(__file__).resolve().parents[2]
HEAVY = "torch numba hydra pandas sklearn scipy matplotlib pyarrow joblib wandb stable_baselines3"


def python(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=900,
        check=False, env={**os.environ, **variables},
    )  # fmt: skip


def test_every_public_name_is_there_and_is_what_it_says() -> None:
    assert pals_gym.__all__ == sorted(pals_gym.__all__)
    assert dir(pals_gym) == pals_gym.__all__
    for module, names in _HOMES.items():
        for name in names:
            assert getattr(pals_gym, name) is getattr(importlib.import_module(module), name)
    lazy = {name for names in _HOMES.values() for name in names}
    assert lazy | {"make", "make_vec"} == set(pals_gym.__all__)
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        pals_gym.evalute  # noqa: B018


def test_type_checkers_see_the_names_that_are_imported_when_used() -> None:
    tree = ast.parse(Path(pals_gym.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        node.module: tuple(sorted(alias.name for alias in node.names))
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }
    assert seen == {module: tuple(sorted(names)) for module, names in _HOMES.items()}


def test_importing_it_is_light() -> None:
    code = f"import sys, pals_gym; print([n for n in {HEAVY.split()!r} if n in sys.modules])"
    assert python("-c", code).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "code",
    [
        "env = gymnasium.make('pals_gym:pals/Simulated-v0', model='gpt2'); env.reset(seed=1)",
        "env = gymnasium.make_vec('pals_gym:pals/Simulated-v0', num_envs=2); env.reset(seed=1)",
    ],
)
def test_gymnasium_finds_the_environments_with_nothing_imported_before(code: str) -> None:
    done = python("-c", f"import gymnasium\n{code}")
    assert done.returncode == 0, done.stderr


def test_make_needs_no_identifier() -> None:
    env = pals_gym.make(model="gpt2", duration_s=30.0)
    assert env.reset(seed=1)[0] in env.observation_space
    both = pals_gym.make_vec(num_envs=2, model=["gpt2", "olmoe_1b_7b"])
    assert both.reset(seed=1)[0].shape[0] == 2


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        (["-c", "import pals_gym"], False),
        (["-c", "import experiments.run"], False),
        (["-m", "experiments.run", "duration=10"], True),
        (["-m", "experiments"], True),
    ],
)
def test_a_package_that_hides_one_of_ours_is_named(
    tmp_path: Path, arguments: list[str], whole: bool
) -> None:
    """An import has a traceback, a command one line."""
    other = tmp_path / "elsewhere" / "agents"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("VERSION = 1\n")
    path = os.pathsep.join([str(other.parent), str(ROOT)])
    done = python(*arguments, cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    *before, last = done.stderr.strip().splitlines()
    assert ("Traceback" in "".join(before)) is not whole
    assert not (whole and before)
    start = "error" if whole else "ImportError"
    assert last.startswith(f"{start}: pals-gym: Python finds another package 'agents'")
    assert f"{other} hides {ROOT / 'agents'}" in last
    assert "PYTHONPATH" in last
