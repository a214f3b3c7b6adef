"""Files of settings from elsewhere are read as plain values, and refer to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs.errors import ConfigurationError
from experiments.app.composition import saved_settings
from experiments.app.settings import RunConfig
from experiments.app.yaml_file import read_yaml, refuse_endless
from experiments.benchmarking.runner import BenchmarkConfig, front_choices
from experiments.records.uploading import _configuration

LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
REFUSED = {
    "a secret": ("a: {b: [x, '${oc.env:PALS_SECRET}']}", r"a\.b\[1\] refers"),
    "a secret as a key": ("a: {'${oc.env:PALS_SECRET}': 1}", "refers"),
    "another key": ("a: 1\nb: ${a}", "b refers"),
    "parts that repeat parts": (LAUGHS, "line 2: [*]a repeats"),
    "itself": ("a: &x [*x]", "line 1: [*]x repeats"),
    "an object": ("a: !!python/object/apply:os.getcwd []", "damaged"),
    "a key twice": ("a: 1\na: 2", "damaged"),
    "nested without end": ("[" * 50_000, "damaged"),
    "no text": (b"\xff\xfe\x00", "damaged"),
}


@pytest.mark.parametrize(("content", "named"), REFUSED.values(), ids=REFUSED)
def test_what_refers_or_is_no_data_is_refused(
    content: str | bytes, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALS_SECRET", "planted")
    file = tmp_path / "config.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (
        read_yaml,
        _configuration,
        lambda own: saved_settings(own, RunConfig),
        lambda own: front_choices(BenchmarkConfig(fronts=[str(own)])),
    ):
        with pytest.raises(ConfigurationError, match=named) as caught:
            read(file)
        assert str(file) in str(caught.value)
        assert "planted" not in str(caught.value)


def test_a_pipe_is_no_file_of_settings(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        front_choices(BenchmarkConfig(fronts=[str(tmp_path / "pipe")]))


def test_plain_values_are_read(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("a: {b: [1, 2.5, null, true, 'x', '???']}\n")
    assert read_yaml(file) == {"a": {"b": [1, 2.5, None, True, "x", "???"]}}


def test_a_file_of_configuration_is_no_larger_than_it_says(tmp_path: Path) -> None:
    (tmp_path / "controller").mkdir()
    file = tmp_path / "controller" / "mine.yaml"
    file.write_text(LAUGHS)
    done = subprocess.run(
        [sys.executable, "-m", "experiments.run", f"hydra.searchpath=[file://{tmp_path}]",
         "controller=mine", f"hydra.run.dir={tmp_path}/out"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert f"{file}:5: its parts repeat or nest without end" in done.stdout + done.stderr
    file.write_text("[" * 20_000)
    with pytest.raises(ConfigurationError, match="without end"):
        refuse_endless(file)


def test_parts_that_are_used_again_are_allowed(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("a: &a {b: 1}\nc: *a\nd: [*a, *a]\n")
    refuse_endless(file)
    file.write_text("a: [")
    refuse_endless(file)
