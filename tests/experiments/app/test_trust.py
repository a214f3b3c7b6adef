"""What a configuration file may not do: vouch for code, or have Hydra call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from envs import catalog
from envs.errors import ConfigurationError
from experiments.app.trust import (
    add_named_folders,
    allow_named_packages,
    refuse_foreign_hydra,
    refuse_other_packages,
)
from experiments.run import main


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(catalog.PACKAGES_VARIABLE, "")


def test_the_command_line_allows_packages() -> None:
    allow_named_packages(["seed=1", "allow_packages=[a,b]", "+allow_packages=c"])
    assert catalog.allowed_packages() == {"a", "b", "c"}
    refuse_other_packages(OmegaConf.create({"allow_packages": ["a", "c"]}))


def test_the_command_line_names_folders_of_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name / "controller").mkdir(parents=True)
        (tmp_path / name / "controller" / f"{name}.yaml").write_text("# Nothing.\n")
    add_named_folders(
        ["seed=1", f"hydra.searchpath=[file://{tmp_path}/one,pkg://conf]", "+hydra.searchpath=two"]
    )
    for name in ("one", "two"):
        file = tmp_path / name / "controller" / f"{name}.yaml"
        assert catalog.choice_file("controller", name) == file


@pytest.mark.parametrize("named", [["evil"], ["a", "evil"], "evil"])
def test_a_file_does_not(named: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"a file names.*evil"):
        refuse_other_packages(OmegaConf.create({"allow_packages": named}))
    assert not catalog.allowed_packages()


@pytest.mark.parametrize(
    "node",
    [
        {"callbacks": {"x": {"_target_": "os.system", "command": "true"}}},
        {"launcher": {"_target_": "subprocess.Popen"}},
        {"sweeper": {"inner": [{"_target_": "builtins.exec"}]}},
        {"job_logging": {"handlers": {"x": {"()": "os.system", "command": "true"}}}},
        {"hydra_logging": {"formatters": {"x": {"class": "subprocess.Popen"}}}},
        {"callbacks": {"x": {"_target_": "hydra.utils.get_object", "path": "own_module.x"}}},
        {"callbacks": {"x": {"_target_": "hydra.experimental.callbacks.pickle.loads"}}},
        {"callbacks": {"x": "${oc.create:'{_target_: os.system}'}"}},
        {"callbacks": {"x": "${env.part}"}},
        {"launcher": {"x": "${...part}"}},
        {"sweeper": "${oc.decode:'{_target_: os.system}'}"},
        {"job_logging": "${oc.create:'{handlers: {x: {(): os.system}}}'}"},
        {"job_logging": {"handlers": {"x": "${hydra:${oc.create:'a'}}"}}},
        {"job_logging": {"handlers": {"x": "${hydra.launcher.y}"}},
         "launcher": {"y": {"()": "os.system"}}},
        {"job_logging": {"formatters": {"x": {"format": "ext://own_module.x"}}}},
        {"job": {"env_set": {"LD_PRELOAD": "/tmp/x.so"}}},
        {"job": {"env_set": {"PALS_ALLOW_PACKAGES": "os"}}},
    ],
)  # fmt: skip
def test_hydra_calls_nothing_but_its_own(node: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="hydra"):
        refuse_foreign_hydra(OmegaConf.create(node))


FILES = {
    "callback": "hydra:\n  callbacks:\n    x: {_target_: os.mkdir, path: RAN}\n",
    "hidden": "hydra: {callbacks: {x: {_target_: hydra.utils.get_object, path: evil_package.x}}}\n",
    "logging": "hydra:\n  hydra_logging:\n    handlers:\n      x: {'()': os.mkdir, path: RAN}\n",
    "environment": "hydra:\n  job:\n    env_set: {PALS_ALLOW_PACKAGES: evil_package}\n",
    "packages": "allow_packages: [evil_package]\n",
    "controller": "controller: {_target_: evil_package.Mine}\nallow_packages: [evil_package]\n",
    "tracker": "tracker: {_target_: envs.catalog.allow_package, name: evil_package}\n",
}


@pytest.mark.parametrize("what", FILES)
def test_an_experiment_from_elsewhere_runs_no_code(
    what: str, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "evil_package.py").write_text(f"open({str(ran)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    text = FILES[what].replace("RAN", str(ran))
    (folder / "evil.yaml").write_text(f"# @package _global_\n{text}")
    done = command(
        main, f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "experiment=evil",
         "controller=static", "duration=5",
    )  # fmt: skip
    assert done.code != 0
    assert not ran.exists()
    assert "Traceback" not in done.err
