"""What Hydra writes of a job is ours to write: under the lock, masked, with its name in errors."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core import utils
from omegaconf import OmegaConf

from experiments.app.hydra_files import hydras_files_held
from experiments.run import main as run

ROOT = Path(__file__).resolve().parents[3]


def test_hydra_itself_writes_nothing_of_a_job(tmp_path: Path) -> None:
    """What it would write has its secrets unmasked, for every user to read."""
    with hydras_files_held():
        utils._save_config(OmegaConf.create({"token": "hunter22"}), "config.yaml", tmp_path)
    assert not list(tmp_path.iterdir())
    utils._save_config(OmegaConf.create({"seed": 1}), "config.yaml", tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"


def test_a_command_that_is_refused_leaves_the_files_of_the_one_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / ".hydra" / "config.yaml"
    file.parent.mkdir()
    file.write_text("seed: 1\n")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        arguments = ["run", f"hydra.run.dir={tmp_path}", "controller=static", "seed=2"]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit):
            run()
    finally:
        os.close(descriptor)
    assert "another command writes" in capfd.readouterr().err
    assert file.read_text() == "seed: 1\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = subprocess.run(
        [sys.executable, "-m", "experiments.run", f"hydra.run.dir={tmp_path}", "controller=static"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=no_large_files,
    )
    assert done.returncode == 1
    assert str(tmp_path / ".hydra" / "config.yaml") in done.stderr


def test_the_configuration_is_printed_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--cfg", "job", "server=vllm", "server.url=http://me:hunter22@127.0.0.1"]
    monkeypatch.setattr(sys, "argv", arguments)
    run()
    shown = capfd.readouterr()
    assert "http://***@127.0.0.1" in shown.out
    assert "hunter22" not in shown.out + shown.err
