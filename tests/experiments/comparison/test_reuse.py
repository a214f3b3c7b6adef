"""A comparison takes runs from before only where they are what it would make now, and says so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.clock_times import without_clock_times

from envs import sources
from envs.catalog import files
from experiments.compare import main
from experiments.records import provenance

QUICK = ("duration=10", "executor.jobs=1", "controllers=[static]", "seeds=2")
TAKEN = "2 runs taken from before: same configuration, input files, code and libraries"
MODEL = {
    "model_type": "llama", "num_hidden_layers": 8, "num_attention_heads": 16, "hidden_size": 2048,
    "num_key_value_heads": 4, "intermediate_size": 8192, "vocab_size": 32000,
    "max_position_embeddings": 4096, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip
OWN = '''
"""A rule of one's own."""

from dataclasses import dataclass

from pals_gym import KnobController, Knobs


@dataclass(kw_only=True)
class Rule(KnobController):
    """Holds a fraction of the highest power cap."""

    def decide(self, observation, state):
        highest = self.context.highest
        return Knobs({fraction} * highest.power_cap_w, highest.max_num_seqs), state
'''


def energies(out: Path, controller: str = "static") -> list[float]:
    return [
        json.loads(file.read_text())["energy_gpu_j"]
        for file in sorted((out / "runs" / controller).glob("*/summary.json"))
    ]


def test_runs_taken_from_before_are_named_with_the_reason(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    first = command(main, *QUICK)
    assert "from before:" not in first.out
    again = command(main, *QUICK, "debug=on")
    assert TAKEN in again.out
    assert "static, seed 0; static, seed 1" in again.out


def test_a_changed_config_in_a_model_folder_is_noticed(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    found = []
    for layers in (8, 16):
        (folder / "config.json").write_text(json.dumps({**MODEL, "num_hidden_layers": layers}))
        done = command(main, *QUICK, f"model={folder}")
        assert done.code == 0, done.err
        found.append(energies(tmp_path / "out"))
    assert found[0] != found[1]
    assert "2 runs made again: another configuration, or an input file that changed" in done.out
    assert TAKEN in command(main, *QUICK, f"model={folder}").out


def test_a_new_folder_gets_no_stale_profile_or_baseline(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    """The cache is shared by all folders: a changed model needs a profile of its own."""
    folder = tmp_path / "model"
    folder.mkdir()
    quick = [*QUICK, "controllers=[pals]", "seeds=1", "duration=40", f"model={folder}",
             "profile.settle_s=2", "profile.measure_s=4", "server.tensor_parallel=1"]  # fmt: skip
    cache = Path(os.environ["PALS_CACHE"])
    counts = []
    for layers in (8, 24):
        (folder / "config.json").write_text(json.dumps({**MODEL, "num_hidden_layers": layers}))
        done = command(main, *quick)
        assert done.code == 0, done.err
        counts.append(
            [len(list((cache / kind).iterdir())) for kind in ("profiles", "references", "forests")]
        )
    assert [after - before for before, after in zip(*counts, strict=True)] == [1, 1, 1]


def test_an_edited_controller_of_ones_own_is_noticed(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "own_lab"
    package.mkdir()
    choices = tmp_path / "conf" / "controller"
    choices.mkdir(parents=True)
    (choices / "own.yaml").write_text(
        "defaults:\n  - /schema/own_lab/rule/Rule@_here_\n  - _self_\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for fraction in ("0.50", "0.90"):
        (package / "rule.py").write_text(OWN.format(fraction=fraction))
        for name in [name for name in sys.modules if name.startswith("own_lab")]:
            monkeypatch.delitem(sys.modules, name)
        sources._source_hash.cache_clear()  # each is another process
        files.schema.cache_clear()
        done = command(
            main, *QUICK, "controllers=[own]", "allow_packages=[own_lab]",
            f"hydra.searchpath=[file://{tmp_path / 'conf'}]",
        )  # fmt: skip
        assert done.code == 0, done.err
        found.append(energies(tmp_path / "out", "own"))
    assert "2 runs made again: other code of the allowed packages" in done.out
    assert found[0] != found[1]


def test_another_version_of_a_library_is_named(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(main, *QUICK)
    real = sources.installed_version
    monkeypatch.setattr(
        sources, "installed_version", lambda name: "9.9" if name == "numpy" else real(name)
    )
    _forget_versions()
    done = command(main, *QUICK)
    _forget_versions()
    assert f"2 runs made again: numpy {real('numpy')}, now 9.9" in done.out


def _forget_versions() -> None:
    sources.library_versions.cache_clear()
    provenance.platform_facts.cache_clear()


@pytest.mark.parametrize("damage", ["[]", "", "{}", '{"provenance": []}', "deep", "pipe", "edit"])
def test_a_summary_that_is_not_as_written_is_made_again(
    command: Callable[..., Any], tmp_path: Path, damage: str
) -> None:
    command(main, *QUICK, "seeds=1")
    (file,) = tmp_path.glob("out/runs/*/*/summary.json")
    whole = file.read_text()
    file.unlink()
    if damage == "pipe":
        os.mkfifo(file)
    elif damage == "edit":
        content = json.loads(whole)
        content["energy_gpu_j"] *= 0.5
        file.write_text(json.dumps(content))
    else:
        file.write_text("[" * 100_000 if damage == "deep" else damage)
    done = command(main, *QUICK, "seeds=1")
    assert done.code == 0, done.err
    assert "1 run made again" in done.out
    assert str(file) in done.out
    assert without_clock_times(json.loads(file.read_text())) == without_clock_times(
        json.loads(whole)
    )


@pytest.mark.parametrize("damage", ["cut", "overwritten", "missing", "empty", "one bit"])
def test_a_run_whose_intervals_are_damaged_is_made_again(
    damage: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    command(main, *QUICK)
    file = tmp_path / "out" / "runs" / "static" / "seed_0" / "intervals.parquet"
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        flipped = bytes([*whole[:200], whole[200] ^ 1, *whole[201:]])
        content = {
            "cut": whole[: len(whole) // 2], "overwritten": b"xx", "empty": b"", "one bit": flipped
        }  # fmt: skip
        file.write_bytes(content[damage])
    again = command(main, *QUICK)
    assert "1 run taken from before" in again.out
    how = "is missing" if damage == "missing" else "is damaged or was edited"
    assert f"intervals.parquet {how}" in again.out
    assert file.read_bytes() == whole
