"""Hydra's options may stand anywhere on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.app.option_order import options_first

SITE = ["--config-dir", "/etc/pals"]


@pytest.mark.parametrize(
    ("line", "sorted_line"),
    [
        ([*SITE, "experiment=site"], [*SITE, "experiment=site"]),
        (["seed=1", *SITE, "experiment=site"], [*SITE, "seed=1", "experiment=site"]),
        (["seed=1", "--config-dir=/etc", "a=b"], ["--config-dir=/etc", "seed=1", "a=b"]),
        (["seed=1,2", "-m", "~a", "b=c"], ["-m", "seed=1,2", "~a", "b=c"]),
        (["seed=1", "--info", "a=b"], ["--info=all", "seed=1", "a=b"]),
        (["seed=1", "--info", "config"], ["--info=config", "seed=1"]),
        (["seed=1", "--config-dir"], ["--config-dir", "seed=1"]),
    ],
)
def test_options_come_first_with_their_values(line: list[str], sorted_line: list[str]) -> None:
    assert options_first(line) == sorted_line


def test_a_folder_of_settings_may_be_named_between_overrides(tmp_path: Path) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "site.yaml").write_text("# @package _global_\nseed: 7\n")
    line = ["interval=0.5", "--config-dir", str(tmp_path), "experiment=site", "--cfg", "job"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.run", *line], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "seed: 7" in done.stdout
