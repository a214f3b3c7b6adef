"""The command ``python -m experiments.run``: its files, its figures, its errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import yaml
from support.caches import own_cache
from support.clock_times import without_clock_times

from envs.errors import ServerError
from envs.simulator.server import SimulatedServer
from envs.telemetry import COLUMN
from experiments.app.composition import saved_run
from experiments.run import main
from experiments.runs.runner import execute

ROOT = Path(__file__).resolve().parents[2]
FILES = {"summary.json", "intervals.parquet", "config.yaml", "run.png", "describe.json"}
KEYS = {
    "controller", "seed", "duration_s", "prompt_tokens", "output_tokens", "energy_gpu_j",
    "energy_system_j", "tokens_per_joule", "tokens_per_joule_system", "output_tokens_per_joule",
    "throughput_tok_s", "qos_violation_rate", "qos_violation_rate_backlog",
    "qos_violation_rate_plain", "slo_violation_rate", "ttft_p50_s", "ttft_p99_s", "tpot_p50_s",
    "tpot_p99_s", "power_mean_w", "power_tracking_error_w", "cap_binding_fraction",
    "knob_changes", "requests_arrived", "requests_finished", "requests_rejected", "provenance",
}  # fmt: skip
PROVENANCE = {"version", "git_commit", "configuration_hash", "calibration_hash", "platform"}


@pytest.fixture(scope="module")
def finished(compose, tmp_path_factory):
    """A run of PALS with a budget, and its folder."""
    folder = tmp_path_factory.mktemp("run")
    config = compose("controller=pals", "seed=7", "objective=budget_steps", "duration=90")
    return execute(config.scenario, config.options("pals"), folder), folder


def test_the_files_are_there_and_no_others(finished):
    _, folder = finished
    assert {path.name for path in folder.iterdir()} == FILES


def test_the_summary_has_every_figure_and_no_nan(finished):
    summary, folder = finished
    text = (folder / "summary.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == summary
    assert set(summary) >= KEYS
    assert set(summary["provenance"]) >= PROVENANCE
    assert (summary["controller"], summary["seed"], summary["duration_s"]) == ("pals", 7, 90.0)
    assert summary["qos_violation_rate"] is not None
    assert summary["power_tracking_error_w"] is not None
    assert summary["slo_violation_rate"] is None


def test_energy_tokens_and_requests_add_up(finished):
    summary, folder = finished
    frame = pandas.read_parquet(folder / "intervals.parquet")
    assert len(frame) == 180
    for key in ("prompt_tokens", "output_tokens", "energy_gpu_j", "energy_system_j"):
        assert summary[key] == pytest.approx(frame[key].sum(), rel=1e-12), key
    tokens = summary["prompt_tokens"] + summary["output_tokens"]
    assert summary["tokens_per_joule"] == pytest.approx(tokens / summary["energy_gpu_j"])
    gpus = [f"gpu{index}_power_w" for index in range(4)]
    assert frame[gpus].sum(axis=1).tolist() == pytest.approx(frame["power_w"].tolist())
    assert summary["requests_arrived"] == (
        summary["requests_finished"] + summary["requests_rejected"]
        + summary["requests_running"] + summary["requests_waiting"]
    )  # fmt: skip
    node = 1.05 * frame["energy_gpu_j"] + 345.0 * frame["duration_s"]
    assert frame["energy_system_j"].tolist() == pytest.approx(node.tolist())


def test_the_saved_configuration_gives_the_same_run(finished, tmp_path):
    summary, folder = finished
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["seed"] == 7
    assert saved["controller"]["_target_"] == "baselines.pals.controller.Pals"
    config = saved_run(folder / "config.yaml")
    again = execute(config.scenario, config.options("pals"), tmp_path)
    assert without_clock_times(again) == without_clock_times(summary)
    for name in set(FILES) - {"summary.json"}:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_plot_is_a_plot(finished):
    from matplotlib.image import imread

    saved_plot = imread(finished[1] / "run.png")
    assert saved_plot.shape[0] > 800
    assert saved_plot.shape[1] > 800
    assert saved_plot[..., :3].std() > 0.05


def test_a_fresh_process_prints_a_table(tmp_path):
    arguments = ["controller=static", "duration=20", f"hydra.run.dir={tmp_path / 'out'}"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
        env={**os.environ, "PALS_CACHE": str(own_cache(tmp_path / "cache"))},
    )
    assert "Tokens per joule (GPUs)" in done.stdout
    last = done.stderr.strip().splitlines()[-1]  # no terminal: a plain line now and then
    assert re.match(r" *20\.0 s +\d+ tok/s of \d+ +\d+ W  batch ", last)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FILES, ".hydra"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["workload.rate=-1"], "workload.rate: must be >= 1e-06 and <= 1000000, got -1"),
        (["duration=0"], "duration: must be >= 1e-06"),
        (["duration=0.2"], "duration: must be at least one interval"),
        (["interval=-1"], "interval: must be >= 0.001 and <= 3600, got -1"),
        (["seed=-1"], "seed: must be >= 0"),
        (["server.tensor_parallel=1"], "model 'mixtral_8x7b' does not fit"),
        (["server.num_gpus=3"], "server.num_gpus: must be server.tensor_parallel x"),
        (["objective.tpot_slo_s=0"], "objective.tpot_slo_s: must be >= 1e-06"),
        (["objective=budget_file"], "objective.power_budget.path"),
        (["workload=azure_conv", "workload.path=/no/file.csv"], "/no/file.csv"),
        (["reward.qos_definition=kind"], "reward.qos_definition: must be one of"),
        (["controller.threshold=-1"], "controller.threshold"),
        (["model._target_=os.path.join"], "outside the allowed packages"),
        (["profile.path=/no/profile.json"], "profile.path: cannot read /no/profile.json"),
        (["seed=1.5"], "Value '1.5' of type 'float' could not be converted to Integer"),
        (["workload.lode=1"], "workload.lode: no such key; did you mean 'load'?"),
        (["controler=pals"], "controler: no such key; did you mean 'controller'?"),
        (["controller=palz"], "controller: no choice named 'palz'; did you mean 'pals'?"),
    ],
)
def test_bad_configuration_is_one_message(command, tmp_path, arguments, message):
    done = command(main, "duration=20", *arguments)
    assert done.code != 0
    assert message in done.err
    assert done.err.count("error:") == 1
    assert "Traceback" not in done.err
    assert not FILES & {path.name for path in tmp_path.rglob("*")} - {"config.yaml"}
    assert not (tmp_path / "out" / "config.yaml").exists()


def test_debug_shows_where(command):
    done = command(main, "duration=20", "workload.rate=-1", "debug=on")
    assert done.code != 0
    assert "Traceback" in done.err
    assert "workload.rate: must be >= 1e-06" in done.err


def test_a_server_that_dies_leaves_what_was_recorded_and_no_summary(command, tmp_path, monkeypatch):
    run = ("duration=20", "controller=static", "seed=11")
    assert command(main, *run).code == 0  # the reference run is in the cache now
    shutil.rmtree(tmp_path / "out")
    lets_pass = SimulatedServer.run

    def dies(self, seconds):
        lets_pass(self, seconds)
        if self.telemetry_row[0, COLUMN.time_s] > 5.0:
            raise ServerError("server died after 5 s")

    monkeypatch.setattr(SimulatedServer, "run", dies)
    done = command(main, *run)
    assert done.code != 0
    assert "server died after 5 s" in done.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".hydra", "intervals.parquet"}
    assert pandas.read_parquet(tmp_path / "out" / "intervals.parquet")["time_s"].max() == 5.0


def test_an_unexpected_error_is_named_without_a_traceback(command, monkeypatch):
    monkeypatch.setattr("experiments.runs.runner.run_episode", lambda *_, **__: 1 / 0)
    done = command(main, "duration=20", "controller=static", "seed=12")
    assert done.code != 0
    assert "ZeroDivisionError: division by zero" in done.err
    assert "Traceback" not in done.err


def test_a_failing_job_does_not_end_the_sweep(command, tmp_path):
    done = command(main, "-m", "duration=10", "controller=static", "workload.rate=2,-2,3")
    assert done.code != 0
    assert done.err.count("error:") == 1
    written = sorted(path.parent.name for path in tmp_path.glob("out/*/summary.json"))
    assert written == ["0", "2"]


def test_a_sweep_without_failure_ends_well(command, tmp_path):
    done = command(main, "-m", "duration=10", "controller=static,governor", "seed=1,2")
    assert done.code == 0, done.err
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("out/*/summary.json")]
    assert {(s["controller"], s["seed"]) for s in summaries} == {
        ("static", 1), ("static", 2), ("governor", 1), ("governor", 2)
    }  # fmt: skip


USERS_CONTROLLER = """
from dataclasses import dataclass
from baselines.base import KnobController
from envs.knobs import Knobs

@dataclass(kw_only=True)
class Thrifty(KnobController):
    power_cap_w: float = 200.0

    def decide(self, observation, state):
        return Knobs(self.power_cap_w, 32), state
"""


@pytest.fixture
def users_files(tmp_path, monkeypatch):
    (tmp_path / "thrifty_package").mkdir()
    (tmp_path / "thrifty_package" / "__init__.py").write_text("")
    (tmp_path / "thrifty_package" / "thrifty.py").write_text(USERS_CONTROLLER)
    folder = tmp_path / "users_conf" / "controller"
    folder.mkdir(parents=True)
    (folder / "thrifty.yaml").write_text(
        "defaults:\n  - /schema/thrifty_package/thrifty/Thrifty@_here_\n  - _self_\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"hydra.searchpath=[file://{tmp_path / 'users_conf'}]"


def test_users_bring_models_of_their_own(command, tmp_path):
    file = tmp_path / "config.json"
    shape = {
        "model_type": "llama", "num_hidden_layers": 16, "hidden_size": 2048,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192,
        "vocab_size": 128256, "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
        "tie_word_embeddings": True,
    }  # fmt: skip
    file.write_text(json.dumps(shape))
    done = command(main, f"model={file}", "duration=10", "controller=static")
    assert done.code == 0, done.err
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert saved["model"]["path"] == str(file)
    first = json.loads((tmp_path / "out" / "summary.json").read_text())
    file.write_text(json.dumps({**shape, "num_hidden_layers": 96}))
    assert command(main, f"model={file}", "duration=10", "controller=static").code == 0
    larger = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert larger["capacity_tok_s"] < 0.6 * first["capacity_tok_s"]
    file.write_text("{}")
    done = command(main, f"model={file}", "duration=10", "controller=static")
    assert done.code != 0
    assert str(file) in done.err


def test_users_bring_controllers_of_their_own(command, tmp_path, users_files):
    done = command(
        main, users_files, "duration=10", "controller=thrifty", "controller.power_cap_w=250",
        "allow_packages=[thrifty_package]",
    )  # fmt: skip
    assert done.code == 0, done.err
    frame = pandas.read_parquet(tmp_path / "out" / "intervals.parquet")
    assert set(frame["requested_power_cap_w"]) == {250.0}
    assert set(frame["requested_max_num_seqs"]) == {32.0}


def test_users_packages_must_be_allowed(command, users_files, monkeypatch):
    monkeypatch.setenv("PALS_ALLOW_PACKAGES", "")
    done = command(main, users_files, "duration=10", "controller=thrifty")
    assert done.code != 0
    assert "allow_packages=[thrifty_package]" in done.err
