"""TensorBoard, MLflow, datasets and uploads get what a run wrote, once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from envs.errors import ConfigurationError
from experiments.records.more_trackers import Mlflow
from experiments.records.offline_data import export
from experiments.records.provenance import content_hash
from experiments.records.tracking import RunFacts, Wandb
from experiments.records.uploading import finished_runs, upload
from experiments.run import main as run
from experiments.runs.runner import execute

SMALL = (
    "model=olmoe_1b_7b",
    "server.tensor_parallel=1",
    "controller=governor",
    "duration=10",
    "seed=3",
)


@pytest.fixture
def finished(compose: Callable[..., Any], tmp_path: Path) -> Path:
    """The folder of a finished run of 20 intervals."""
    config = compose(*SMALL, "tracker=files")
    folder = tmp_path / "governor"
    execute(config.scenario, config.options("governor"), folder)
    return folder


def test_tensorboard_gets_rows_and_summary(compose: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'pals-gym[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = compose(*SMALL, "tracker=tensorboard")
    summary = execute(config.scenario, config.options("governor"), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    power = events.Scalars("interval/power_w")
    assert [event.step for event in power] == list(range(20))
    rows = pandas.read_parquet(tmp_path / "intervals.parquet")
    np.testing.assert_allclose([event.value for event in power], rows["power_w"], rtol=1e-6)
    (efficiency,) = events.Scalars("summary/tokens_per_joule")
    assert efficiency.value == pytest.approx(summary["tokens_per_joule"], rel=1e-6)


@pytest.mark.long
def test_mlflow_gets_configuration_rows_and_summary(
    compose: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("mlflow", reason="pip install 'pals-gym[mlflow]'")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'store.db'}"
    config = compose(*SMALL, "tracker=mlflow", f"tracker.uri='{uri}'")
    summary = execute(config.scenario, config.options("governor"), tmp_path / "out")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("pals-gym")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.params["seed"] == "3"
    assert kept.data.metrics["summary.tokens_per_joule"] == pytest.approx(
        summary["tokens_per_joule"]
    )
    assert len(client.get_metric_history(kept.info.run_id, "power_w")) == 20
    plots = list(tmp_path.rglob("mlflow_files/*/artifacts/run.png"))
    assert len(plots) == 1
    assert not (Path.cwd() / "mlruns").exists()


@pytest.mark.filterwarnings("error::UserWarning:minari.*")
def test_a_dataset_is_the_run_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari", reason="pip install 'pals-gym[minari]'")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(finished.parent / "datasets"))
    export(finished, "pals/governor-v0", episodes=2)
    dataset = minari.load_dataset("pals/governor-v0")
    assert dataset.total_episodes == 2
    assert dataset.total_steps == 40
    first, second = dataset.iterate_episodes()
    rows = pandas.read_parquet(finished / "intervals.parquet")
    np.testing.assert_allclose(first.rewards, rows["reward"], rtol=1e-12)
    assert first.observations.shape[0] == 21
    assert first.truncations[-1]
    assert not first.terminations.any()
    assert (first.rewards != second.rewards).any()
    env = dataset.recover_environment()
    observation, _ = env.reset(seed=3)
    np.testing.assert_array_equal(observation, first.observations[0])
    observation, reward, *_ = env.step(first.actions[0])
    np.testing.assert_array_equal(observation, first.observations[1])
    assert reward == pytest.approx(first.rewards[0])
    with pytest.raises(ConfigurationError, match="there is one named"):
        export(finished, "pals/governor-v0")
    for name in ("../../elsewhere-v0", "no-version", "a b-v0", ""):
        with pytest.raises(ConfigurationError, match="dataset: must be NAMESPACE/NAME-vN"):
            export(finished, name)
    for episodes in (0, 10**12):
        with pytest.raises(ConfigurationError, match="episodes: must be 1 to 100,000"):
            export(finished, "pals/another-v0", episodes)


def test_only_finished_runs_make_datasets(tmp_path: Path) -> None:
    pytest.importorskip("minari", reason="pip install 'pals-gym[minari]'")
    with pytest.raises(ConfigurationError, match="name the folder of a finished run"):
        export(tmp_path, "pals/none-v0")


def test_an_upload_is_sent_once(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert finished_runs([finished.parent]) == [finished]
    assert upload(finished, Wandb())
    assert not upload(finished, Wandb())
    wandb.teardown()
    # offline-run-TIME-ID, and -1 behind another of the same second
    (first,) = finished.glob("wandb/offline-run-*")
    summary = json.loads((finished / "summary.json").read_text())
    summary["provenance"]["python"] = "another"
    summary["provenance"]["content_hash"] = content_hash(summary)
    (finished / "summary.json").write_text(json.dumps(summary))
    assert upload(finished, Wandb())
    wandb.teardown()
    names = {folder.name.split("-")[3] for folder in finished.glob("wandb/offline-run-*")}
    assert names == {first.name.split("-")[3]}  # it is the same run


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no finished run"):
        finished_runs([tmp_path])


def test_a_run_in_the_same_folder_has_the_same_id(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for _ in range(2):
        assert command(run, *SMALL, "tracker=wandb").code == 0
        wandb.teardown()
    folders = list((tmp_path / "out").glob("wandb/offline-run-*"))
    assert len({folder.name.split("-")[3] for folder in folders}) == 1


def test_an_open_run_is_joined_when_asked(
    compose: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with wandb.init(dir=str(tmp_path), settings=wandb.Settings(silent=True)) as sweep:
        config = compose(*SMALL, "tracker=wandb", "tracker.join=true")
        summary = execute(config.scenario, config.options("governor"), tmp_path / "out")
        assert sweep.summary["tokens_per_joule"] == summary["tokens_per_joule"]
        assert wandb.run is sweep  # still open
    assert not list((tmp_path / "out").glob("wandb"))


def test_a_bundle_becomes_an_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    sent: list[Any] = []
    monkeypatch.setattr(wandb.Run, "log_artifact", lambda self, artifact: sent.append(artifact))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    with Wandb().follow(RunFacts("train-1", tmp_path, {"seed": 1})):
        assert sent == []
    (artifact,) = sent
    assert artifact.type == "model"
    assert list(artifact.manifest.entries) == ["bundle.json"]
    wandb.teardown()


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("summary.json", "{", "damaged"),
        ("summary.json", "[]", "damaged"),
        ("summary.json", "{}", "damaged"),
        ("summary.json", None, "was edited"),
        ("config.yaml", "{a", "damaged"),
        ("config.yaml", "- 1", "damaged"),
        ("intervals.parquet", "PAR1", "damaged"),
        ("intervals.parquet", None, "was edited"),
    ],
)
def test_what_was_edited_or_is_damaged_is_not_sent(
    finished: Path, tmp_path: Path, file: str, content: str | None, words: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    if content is None and file == "intervals.parquet":
        rows = pandas.read_parquet(folder / file)
        rows.assign(gpu_power_w=1.0).to_parquet(folder / file)
    elif content is None:
        summary = json.loads((folder / file).read_text())
        content = json.dumps({**summary, "tokens_per_joule": 99.0})
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(ConfigurationError, match=rf"{file}:? (is|was).*{words.split()[-1]}"):
        upload(folder, Wandb(project="none"))
    assert not (folder / "uploaded.json").exists()
    assert not (folder / "wandb").exists()


def test_a_folder_that_a_database_cannot_be_named_in_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="pip install 'pals-gym[mlflow]'")
    folder = tmp_path / "what?"
    followed = Mlflow().follow(RunFacts("run", folder, {}))
    with pytest.raises(ConfigurationError, match=r"what\?.*tracker\.uri"):
        followed.__enter__()
    assert not list(tmp_path.iterdir())
