from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest
import wandb
from wandb.proto import wandb_internal_pb2 as protocol

from envs.errors import ConfigurationError, ServerError
from experiments.records.tracking import RunFacts, Wandb
from experiments.runs import runner as execution
from experiments.runs.runner import execute


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Neither account nor network."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_API_KEY", "WANDB_DIR", "WANDB_ENTITY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    yield
    wandb.teardown()


def records(folder):
    """Reads what wandb stored for the one offline run below a folder."""
    wandb.teardown()  # waits until everything is on disk
    (file,) = folder.rglob("run-*.wandb")
    found = []
    for data in messages(file.read_bytes()):
        record = protocol.Record()
        record.ParseFromString(data)
        found.append(record)
    assert [record.num for record in found] == list(range(1, len(found) + 1))
    return found


def messages(data):
    """Takes a LevelDB log apart: blocks of 32 KiB, each record maybe in several pieces."""
    block, full, last = 32768, 1, 4
    place, parts = 7, b""  # behind the file's own header
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (full, last):
            yield parts
            parts = b""


def items(entries):
    return {
        entry.key or ".".join(entry.nested_key): json.loads(entry.value_json) for entry in entries
    }


def test_wandb_gets_configuration_rows_summary_and_plot(compose, tmp_path):
    config = compose("tracker=wandb", "controller=static", "duration=10", "seed=4")
    summary = execute(config.scenario, config.options("static"), tmp_path)
    found = records(tmp_path)

    (run,) = [record.run for record in found if record.HasField("run")]
    settings = items(run.config.update)
    assert settings["seed"] == 4
    assert settings["controller"]["_target_"] == "baselines.static.Static"

    history = [items(record.history.item) for record in found if record.HasField("history")]
    rows = [row for row in history if "energy_gpu_j" in row]
    assert [row["_step"] for row in rows] == list(range(20))
    assert [row["time_s"] for row in rows] == pytest.approx([0.5 * n for n in range(1, 21)])
    assert sum(row["energy_gpu_j"] for row in rows) == pytest.approx(summary["energy_gpu_j"])

    told = {}
    for record in found:
        if record.HasField("summary"):
            told.update(items(record.summary.update))
    assert told["tokens_per_joule"] == summary["tokens_per_joule"]
    assert [row["plot._type"] for row in history if "plot._type" in row] == ["image-file"]
    (image,) = tmp_path.rglob("media/images/plot*.png")
    assert image.read_bytes() == (tmp_path / "run.png").read_bytes()

    (end,) = [record.exit for record in found if record.HasField("exit")]
    assert end.exit_code == 0


def test_a_run_that_fails_is_finished_as_failed(compose, tmp_path, monkeypatch):
    def dies(*arguments, on_interval, **options):
        on_interval(0, {"time_s": 0.5, "energy_gpu_j": 1.0})
        raise ServerError("gone")

    monkeypatch.setattr(execution, "run_episode", dies)
    config = compose("tracker=wandb", "controller=static", "duration=10")
    with pytest.raises(ServerError, match="gone"):
        execute(config.scenario, config.options("static"), tmp_path)
    assert wandb.run is None
    (end,) = [record.exit for record in records(tmp_path) if record.HasField("exit")]
    assert end.exit_code == 1
    assert not (tmp_path / "summary.json").exists()


def test_an_unknown_mode_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "sideways")
    facts = RunFacts("name", tmp_path, {})
    with (
        pytest.raises(ConfigurationError, match=r"WANDB_MODE.*sideways"),
        Wandb().follow(facts),
    ):
        pass


def test_a_mode_that_is_empty_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")
    with (
        pytest.raises(ConfigurationError, match="WANDB_MODE: is set, but empty"),
        Wandb().follow(RunFacts("name", tmp_path, {})),
    ):
        pass


def test_the_old_name_of_offline_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    wandb.teardown()
    with Wandb().follow(RunFacts("name", tmp_path, {})):
        pass
    assert run_of(tmp_path).display_name == "name"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    """Weights & Biases would write into a temporary folder and not say so."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "file" / "below"))
    wandb.teardown()
    with (
        pytest.raises(ConfigurationError, match=r"WANDB_DIR: cannot write into .*file/below"),
        Wandb().follow(RunFacts("name", tmp_path, {})),
    ):
        pass


def test_no_account_is_one_clear_message(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    with (
        pytest.raises(ConfigurationError, match=r"[^.]\. Log in with .* WANDB_MODE=offline"),
        Wandb().follow(RunFacts("name", tmp_path, {})),
    ):
        pass


def run_of(folder):
    (run,) = [record.run for record in records(folder) if record.HasField("run")]
    return run


def test_a_run_that_is_open_stays_open_and_gets_nothing_of_ours(compose, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    mine = wandb.init(project="mine", dir=str(own), settings=wandb.Settings(silent=True))
    mine.log({"loss": 1.0})
    config = compose("tracker=wandb", "controller=static", "duration=10")
    (tmp_path / "ours").mkdir()
    execute(config.scenario, config.options("static"), tmp_path / "ours")
    assert wandb.run is mine
    mine.log({"loss": 0.5})
    mine.finish()
    found = records(own)
    history = [items(record.history.item) for record in found if record.HasField("history")]
    assert [row["loss"] for row in history] == [1.0, 0.5]
    (run,) = [record.run for record in found if record.HasField("run")]
    assert "controller" not in items(run.config.update)
    assert run_of(tmp_path / "ours").project == "pals-gym"


def test_what_wandb_offline_has_set_is_respected(compose, tmp_path, monkeypatch):
    """Online, without an account, the run would be refused."""
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    (tmp_path / "wandb").mkdir()
    subprocess.run([sys.executable, "-m", "wandb", "offline"], check=True, capture_output=True)
    wandb.teardown()
    config = compose("tracker=wandb", "controller=static", "duration=10")
    execute(config.scenario, config.options("static"), tmp_path / "run")
    wandb.teardown()
    assert list((tmp_path / "run").rglob("offline-run-*"))


@pytest.mark.parametrize(
    ("variable", "override", "project"),
    [("theirs", None, "theirs"), ("theirs", "named", "named"), (None, None, "pals-gym")],
)
def test_the_project_is_the_one_that_was_named(
    compose, tmp_path, monkeypatch, variable, override, project
):
    if variable is not None:
        monkeypatch.setenv("WANDB_PROJECT", variable)
    wandb.teardown()
    more = [] if override is None else [f"tracker.project={override}"]
    config = compose("tracker=wandb", "controller=static", "duration=10", *more)
    execute(config.scenario, config.options("static"), tmp_path)
    assert run_of(tmp_path).project == project


def test_a_folder_of_the_users_own_is_respected(compose, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "own"))
    wandb.teardown()
    config = compose("tracker=wandb", "controller=static", "duration=10")
    execute(config.scenario, config.options("static"), tmp_path / "run")
    wandb.teardown()
    assert len(list((tmp_path / "own" / "wandb").glob("offline-run-*"))) == 1
    assert not (tmp_path / "run" / "wandb").exists()


def test_the_command_line_is_not_sent(compose, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["run", "server.url=http://me:hunter22@127.0.0.1:8000"])
    wandb.teardown()
    config = compose("tracker=wandb", "controller=static", "duration=10")
    execute(config.scenario, config.options("static"), tmp_path)
    wandb.teardown()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert [file for file in files if b"hunter22" in file.read_bytes()] == []


def test_tags_hold_no_secrets(compose, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "t0ps3cret77")
    wandb.teardown()
    tags = "tracker.tags=['x t0ps3cret77','https://u:hunter22@h/x','token=s3cretvalue','kept-tag']"
    config = compose("tracker=wandb", tags, "controller=static", "duration=10")
    execute(config.scenario, config.options("static"), tmp_path)
    wandb.teardown()
    content = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"kept-tag" in content
    for secret in (b"t0ps3cret77", b"hunter22", b"s3cretvalue"):
        assert secret not in content


def test_files_write_nothing_of_their_own(compose, tmp_path):
    config = compose("controller=static", "duration=10")
    execute(config.scenario, config.options("static"), tmp_path)
    assert not list(tmp_path.rglob("wandb*"))
