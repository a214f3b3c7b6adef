"""Configurations from elsewhere: what they name is not called, wherever they name it."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from envs import catalog
from envs.catalog.kinds import BASES
from envs.catalog.targets import library_class
from envs.errors import ConfigurationError

GROUPS = {
    "action": "grid", "agent": "ppo", "allocator": "uniform", "budget": "constant",
    "calibration": "a100_sxm4_80gb",
    "controller": "static", "device": "throttled_cpu", "env": "single",
    "executor": "joblib", "figure": "fig02", "gpu": "a100_sxm4_80gb", "mixture": "default",
    "model": "mixtral_8x7b", "objective": "throughput_target", "reward": "default",
    "server": "simulated", "suite": "test", "tracker": "files", "workload": "bursty",
}  # fmt: skip


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return (open, (self.file, "w"))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that exists as soon as injected code has run."""
    return tmp_path / "ran"


def calls(marker: Path) -> dict[str, dict[str, Any]]:
    """Returns configurations that would make ``marker`` if what they name were called."""
    stored = marker.with_suffix(".pkl")
    stored.write_bytes(pickle.dumps(Bomb(marker)))
    code = base64.b64encode(stored.read_bytes()).decode()
    text = json.dumps({"x": {":type:": "x", ":serialized:": code}})
    touch = f"touch {marker}"
    return {
        "a function of the system": {"_target_": "os.system", "command": touch},
        "another": {"_target_": "subprocess.getoutput", "cmd": touch},
        "a builtin": {"_target_": "builtins.exec", "_args_": [f"open({str(marker)!r}, 'w')"]},
        "a module that ours imports": {"_target_": "envs.cache.os.system", "command": touch},
        "a class that ours imports": {"_target_": "envs.cache.Path", "_args_": [str(marker)]},
        "a dataclass that ours imports": {"_target_": "envs.factory.Objective"},
        "a function of ours": {"_target_": "envs.cache.atomic_write_text", "path": str(marker)},
        "a function that allows": {"_target_": "envs.catalog.allow_package", "name": "os"},
        "the same by its module": {"_target_": "envs.catalog.targets.allow_package", "name": "os"},
        "the guard": {
            "_target_": "envs.live.guard.open_device",
            "spec": {"class": "subprocess.Popen", "config": {"args": ["touch", str(marker)]}},
        },
        "a process's end": {
            "_target_": "envs.live.process.end_process", "pid": 2**22 + 1, "start_ticks": 0,
        },
        "a launcher": {"_target_": "envs.live.process.Launch", "python": touch},
        "the factory": {"_target_": "envs.factory.make_simulated"},
        "a pickle in a file": {
            "_target_": "stable_baselines3.common.save_util.load_from_pkl", "path": str(stored),
        },
        "a pickle in text": {
            "_target_": "stable_baselines3.common.save_util.json_to_data", "json_string": text,
        },
        "an algorithm's file": {"_target_": "stable_baselines3.PPO.load", "path": str(stored)},
        "a class of the library": {"_target_": "stable_baselines3.common.utils.Schedule"},
        "a schedule": {
            "_target_": "stable_baselines3.common.utils.LinearSchedule",
            "start": 1.0, "end": 1.0, "end_fraction": 1.0,
        },
        "a class that is no dataclass": {"_target_": "envs.serving.ServingEnv"},
        "a record": {"_target_": "envs.system.ServingSystem"},
        "a test of ours": {"_target_": "tests.conftest.settings"},
        "a private name": {"_target_": "envs.catalog.targets._imported", "module": "os"},
        "a module's dunder": {"_target_": "envs.__dict__.get"},
        "an inner name": {"_target_": "experiments.figures.__main__.main"},
        "a command": {"_target_": "experiments.run.main"},
        "nothing": {"_target_": ""},
        "a number": {"_target_": 3},
        "a list": {"_target_": ["os.system"]},
        "spaces": {"_target_": " envs.actions.grid.Grid"},
        "a line": {"_target_": "envs.actions.grid.Grid\nos.system"},
        "another alphabet": {"_target_": "envs.actions.grid.Ｇrid"},
    }  # fmt: skip


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_no_group_builds_what_is_not_its_own(group: str, marker: Path) -> None:
    for what, node in calls(marker).items():
        for form in (node, OmegaConf.create(node)):
            with pytest.raises(ConfigurationError) as caught:
                catalog.build(group, form)
            assert group in str(caught.value), what
    assert not marker.exists()
    assert not catalog.allowed_packages()


NESTED = {
    "objective.target": ("objective", "throughput_target", ["target"]),
    "objective.power_budget": ("objective", "power_budget", ["power_budget"]),
    "objective.carbon_g_kwh": ("objective", "efficiency", ["carbon_g_kwh"]),
    "workload.lengths": ("workload", "bursty", ["lengths"]),
    "workload.lengths.prompt": ("workload", "bursty", ["lengths", "prompt"]),
    "reward.terms.x": ("reward", "default", ["terms", "x"]),
    "budget.signal": ("budget", "constant", ["signal"]),
    "budget.signal.signal": ("budget", "carbon", ["signal", "signal"]),
    "agent.arguments.learning_rate": ("agent", "ppo", ["arguments", "learning_rate"]),
    "agent.arguments.policy_kwargs.x": ("agent", "ppo", ["arguments", "policy_kwargs", "x"]),
    "server.device": ("server", "vllm", ["device"]),
    "env.budget": ("env", "cluster", ["budget"]),
    "env.allocator": ("env", "cluster", ["allocator"]),
}


@pytest.mark.parametrize("place", NESTED)
def test_no_nested_place_builds_what_is_not_its_own(place: str, marker: Path) -> None:
    group, base, path = NESTED[place]
    for what, node in calls(marker).items():
        if what == "a schedule" and place.startswith("agent."):
            continue  # the one place where it belongs
        changes: Any = node
        for key in reversed(path):
            changes = {key: changes}
        with pytest.raises(ConfigurationError) as caught:
            catalog.build(group, {"base": base, **changes})
        assert path[-1] in str(caught.value), what
    assert not marker.exists()


def test_a_mapping_in_a_field_of_plain_data_stays_a_mapping(marker: Path) -> None:
    node = calls(marker)["a function of the system"]
    cluster = catalog.build("env", {"base": "cluster", "nodes": {"node0": {"server": node}}})
    assert cluster.nodes["node0"].server == node
    suite = catalog.build(
        "suite", {"_target_": "experiments.evaluation.suites.Suite",
                  "scenarios": {"s": {"server": node}}}
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="outside the allowed packages"):
        _ = suite.scenarios["s"].built
    assert not marker.exists()


@pytest.mark.parametrize("part", ["model", "gpu", "server", "workload", "objective"])
def test_suites_and_mixtures_are_data(part: str, marker: Path) -> None:
    for node in calls(marker).values():
        target = "experiments.evaluation.suites.Suite"
        suite = {"_target_": target, "scenarios": {"s": {part: node}}}
        with pytest.raises(ConfigurationError):
            _ = catalog.build("suite", suite).scenarios["s"].built
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    ["../gpu/a100_sxm4_80gb", "/etc/passwd", "", ".", "..", "a/../../x", "poisson_gsm8k\n", "~/x"],
)
def test_a_name_is_no_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no choice named"):
        catalog.load("workload", name)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"_target_": "os.system"}))
    with pytest.raises(ConfigurationError, match="no choice named"):
        catalog.load("workload", str(tmp_path / "own"))


def test_a_users_class_has_the_base_type_of_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign_package.py").write_text(
        "from dataclasses import dataclass\n"
        "from envs.actions.grid import Grid\n"
        "@dataclass(kw_only=True)\nclass Mine(Grid):\n    pass\n"
        "@dataclass(kw_only=True)\nclass Other:\n    pass\n"
        "def call():\n    raise SystemExit\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(catalog.PACKAGES_VARIABLE, "foreign_package")
    assert catalog.build("action", {"_target_": "foreign_package.Mine"}).sm_clock is False
    for name in ("Other", "call", "Grid", "dataclass"):
        with pytest.raises(ConfigurationError, match=name):
            catalog.build("action", {"_target_": f"foreign_package.{name}"})
    with pytest.raises(ConfigurationError, match="is no workload"):
        catalog.build("workload", {"_target_": "foreign_package.Mine"})


def test_a_package_that_is_not_allowed_is_not_even_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nobodys_package.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match="outside the allowed packages"):
        catalog.build("action", {"_target_": "nobodys_package.Mine"})
    assert "nobodys_package" not in sys.modules


@pytest.mark.parametrize("path", ["os/system", "envs/cache/os", "envs/cache/Path", "envs", "a//b"])
def test_a_schema_is_that_of_a_dataclass(path: str) -> None:
    with pytest.raises(ConfigurationError):
        catalog.schema(path)


def test_the_guard_opens_devices_only(marker: Path) -> None:
    from envs.live.guard import open_device

    for cls in ("subprocess.Popen", "envs.live.process.Launch", "envs.cache.Path"):
        with pytest.raises(ConfigurationError, match="_target_"):
            open_device({"class": cls, "config": {"args": ["touch", str(marker)]}})
    assert not marker.exists()


def test_every_base_type_is_there() -> None:
    for bases in BASES.values():
        for path in bases:
            assert isinstance(library_class(path), type)
