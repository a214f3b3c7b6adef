"""Paths on the command line: ``~``, spaces, apostrophes, Unicode, folders named like models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from envs.errors import ConfigurationError
from envs.scenario import Scenario
from experiments.app.paths import with_paths
from experiments.run import main

MODEL = {
    "model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 16, "hidden_size": 1024,
    "num_key_value_heads": 4, "intermediate_size": 4096, "vocab_size": 32000,
    "max_position_embeddings": 4096, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip
NAMES = (
    "plain",
    "with space",
    "it's",
    "Grüße 模型",
    "a=b,c",
    "[x] (1) {y}",
    "back\\slash",
    'quote"',
)


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(MODEL))
    return folder


def read(arguments: list[str]) -> dict[str, Any]:
    """Returns what Hydra reads, by key."""
    overrides = OverridesParser.create().parse_overrides(arguments)
    return {each.key_or_group: each.value() for each in overrides}


@pytest.mark.parametrize("name", NAMES)
def test_paths_arrive_as_they_are(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / name)
    trace = folder / "trace.csv"
    trace.touch()
    found = read(with_paths([f"model={folder}", f"workload.path={trace}",
                             f"hydra.run.dir={tmp_path / name / 'out'}"]))  # fmt: skip
    assert found["model"] == "huggingface"
    assert found["model.path"] == str(folder)
    assert found["workload.path"] == str(trace)
    assert found["hydra.run.dir"] == str(tmp_path / name / "out")
    (folder / "config.json").rename(folder / "other.json")
    assert read(with_paths([f"model={folder / 'other.json'}"]))["model.path"] == str(
        folder / "other.json"
    )


def test_the_home_folder_is_meant_by_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = model(tmp_path / "models" / "small")
    found = read(
        with_paths(["model=~/models/small", "hydra.run.dir=~/out", "profile.path=~/models"])
    )
    assert found["model.path"] == str(folder)
    assert found["hydra.run.dir"] == str(tmp_path / "out")
    assert found["profile.path"] == str(tmp_path / "models")
    built: Any = Scenario(model="~/models/small").model
    assert built == {"base": "huggingface", "path": "~/models/small"}


def test_a_tilde_needs_no_file_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    home = str(tmp_path)
    found = read(with_paths(["workload.path=~/x", "a.path='~/a b'", 'b.path="~/it\'s"']))
    assert found == {
        "workload.path": f"{home}/x", "a.path": f"{home}/a b", "b.path": f"{home}/it's",
    }  # fmt: skip
    assert with_paths(["workload.path=~/a,~/b c"]) == [f"workload.path={home}/a,'{home}/b c'"]


@pytest.mark.parametrize("given", ["profile.path=~nobody_here/x", "model=~nobody_here/x", "a=~"])
def test_the_home_of_an_unknown_user_is_refused_with_its_key(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    key, _, path = given.partition("=")
    with pytest.raises(ConfigurationError, match=f"^{key}: {path}: no home folder of"):
        with_paths([given])


@pytest.mark.parametrize("quote", ["'", '"', ""])
def test_a_quoted_model_is_the_model(quote: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "some path")
    found = read(with_paths([f"model={quote}{folder}/config.json{quote}"]))
    assert found == {"model": "huggingface", "model.path": f"{folder}/config.json"}


def test_what_hydra_cannot_take_apart_is_to_be_quoted(command: Callable[..., Any]) -> None:
    done = command(main, "workload.path=/no such (1).csv")
    assert done.code == 1
    assert "as in 'workload.path=\"/no such (1).csv\"'" in done.err
    assert command(main, 'workload.path="/no such (1).csv"').err.startswith("error: workload.path")


def test_a_folder_that_is_named_like_a_model_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model(tmp_path / "mixtral_8x7b")
    (tmp_path / "my_model").mkdir()  # of a name in the user's own configuration
    model(tmp_path / "llama")
    assert with_paths(["model=mixtral_8x7b", "model=my_model"]) == [
        "model=mixtral_8x7b", "model=my_model",
    ]  # fmt: skip
    assert Scenario(model="mixtral_8x7b").model == "mixtral_8x7b"
    assert read(with_paths(["model=./mixtral_8x7b"]))["model.path"] == "mixtral_8x7b"
    assert read(with_paths(["model=llama"]))["model.path"] == "llama"


def test_a_sweep_over_models(tmp_path: Path) -> None:
    one, two = model(tmp_path / "it's one"), model(tmp_path / "two")
    assert with_paths(["model=gpt2,olmoe_1b_7b"]) == ["model=gpt2,olmoe_1b_7b"]
    choice, paths = with_paths([f"model={one},{two}/config.json"])
    assert choice == "model=huggingface"
    (override,) = OverridesParser.create().parse_overrides([paths])
    assert override.is_sweep_override()
    found = [str(getattr(part, "text", part)) for part in override.value().list]
    assert found == [str(one), f"{two}/config.json"]
    with pytest.raises(ConfigurationError, match=r"names \(gpt2\) or over files"):
        with_paths([f"model=gpt2,{one}"])


def test_what_is_no_path_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1").touch()
    given = ["-m", "seed=1", "controllers=[static,pals]", "~tracker", "controller=static,pals",
             "workload.lengths.output={_target_:envs.workloads.lengths.Fixed,tokens:32}",
             "server.url=http://127.0.0.1:8000", "x=" + "y" * 5000, "x.y=null"]  # fmt: skip
    assert with_paths(given) == given


def test_a_run_in_a_folder_with_every_kind_of_character(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    folder = model(tmp_path / "it's a mödel, no. 1")
    done = command(main, f"model={folder}", "duration=5", "controller=static")
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["output_tokens"] > 0
