"""The built wheel installs and runs where there is no checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the files that git knows, so that nothing lies about by chance."""
    source = tmp_path_factory.mktemp("source")
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(out), str(source)],
        check=True, cwd=out,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; its libraries are those of this one."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--python", str(folder / "bin" / "python"),
         "install", "--no-deps", "--no-index", str(wheel)],
        check=True,
    )  # fmt: skip
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def run(
    installed: Path, folder: Path, *command: str, **more: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PALS_COMPILED",) if name in os.environ}
    return subprocess.run(
        [str(installed / "bin" / command[0]), *command[1:]], cwd=folder, text=True,
        capture_output=True, check=False, timeout=600,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **kept, **more},
    )  # fmt: skip


def test_the_wheel_has_what_it_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "conf/run.yaml" in names
    assert "conf/suite/test.yaml" in names
    assert "agents/bundles/ppo/policy.pt" in names
    assert "envs/simulator/architectures/defaults.yaml" in names
    tops = {name.split("/")[0] for name in names}
    packages = {"agents", "baselines", "conf", "envs", "experiments", "pals_gym"}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages
    assert wheel.stat().st_size < 5_000_000


def test_commands_run_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "pals")
    assert listed.returncode == 0, listed.stderr
    assert "Runs one controller" in listed.stdout
    done = run(installed, tmp_path, "pals", "run", "controller=static", "duration=10")
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("outputs/run/*/summary.json")
    assert json.loads(summary.read_text())["tokens_per_joule"] > 0


def test_python_finds_the_installed_package(installed: Path, tmp_path: Path) -> None:
    code = (
        "import gymnasium, pals_gym; print(pals_gym.__file__);"
        "env = gymnasium.make('pals/Steady40-v0'); env.reset(seed=1);"
        "print(env.step(env.action_space.sample())[0].shape)"
    )
    done = run(installed, tmp_path, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    place, shape = done.stdout.splitlines()
    assert Path(place).is_relative_to(installed)
    assert shape == "(28,)"


def test_an_agent_that_comes_with_it_runs(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "pals", "run", "controller=ppo", "duration=5")
    assert done.returncode == 0, done.stderr
