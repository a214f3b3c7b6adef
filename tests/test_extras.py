"""The base installation: what runs without the optional libraries, and what it says otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.caches import own_cache

from envs.extras import DISTRIBUTION, EXTRAS, missing_extra

ROOT = Path(__file__).resolve().parents[1]
WITHOUT = """
import runpy, sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
sys.argv[1:] = {arguments!r}
runpy.run_module("experiments.run", run_name="__main__")
"""
SHORT = ["duration=10", "controller=static"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return own_cache(tmp_path_factory.getbasetemp() / "extras-cache")


@pytest.fixture
def run_without(tmp_path, cache):
    """Runs ``experiments.run`` where some libraries cannot be imported."""

    def run(absent: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        code = WITHOUT.format(
            absent=absent, arguments=[*arguments, f"hydra.run.dir={tmp_path / 'out'}"]
        )
        return subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
            env={"PATH": "/usr/bin:/bin", "PALS_CACHE": str(cache), "HOME": str(tmp_path)},
            timeout=900,
        )  # fmt: skip

    return run


def test_a_run_needs_only_the_base_installation(run_without, tmp_path):
    done = run_without([*EXTRAS], *SHORT)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["tokens_per_joule"] > 0
    assert not (tmp_path / "out" / "run.png").exists()
    lines = [line for line in done.stderr.splitlines() if "pals-gym[plot]" in line]
    assert lines == [
        "no plot is drawn: this needs matplotlib, which is not installed: "
        "pip install 'pals-gym[plot]'"
    ]


@pytest.mark.parametrize(
    ("absent", "argument", "extra"),
    [
        (["wandb"], "tracker=wandb", "wandb"),
        (["torch", "stable_baselines3"], "controller=ppo", "train"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(run_without, absent, argument, extra):
    done = run_without(absent, *SHORT, argument)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert f"pip install '{DISTRIBUTION}[{extra}]'" in errors[0]
    assert "Traceback" not in done.stderr


def test_every_extra_is_one_of_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])
    base = " ".join(project["dependencies"])
    for library in ("torch", "stable-baselines3", "sb3-contrib", "wandb", "matplotlib"):
        assert library not in base


def test_other_imports_are_no_extras():
    assert missing_extra(ModuleNotFoundError("No module named 'nonsense'", name="nonsense")) is None
