"""The command ``python -m experiments.train``: its files, resuming, and honest returns."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from support.odd_files import ODD, put_odd

from agents.asked import with_asked
from agents.bundle import read_bundle
from agents.controller import Agent
from baselines.static import Static
from envs import catalog
from envs.errors import ConfigurationError, PalsError
from envs.safe_files import read_sealed, sealed
from experiments.app.composition import typed
from experiments.evaluation.batched_rollout import Assignment, Episodes
from experiments.evaluation.suites import SuiteScenario
from experiments.records.hashing import digest
from experiments.records.more_trackers import Mlflow
from experiments.train import main
from experiments.training.resumed import kept_configuration, resumed_config
from experiments.training.trainer import CHECKPOINT_FILE, TrainConfig, Training

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "agent.servers=4", "agent.steps=512", "agent.arguments.n_steps=32",
    "agent.arguments.batch_size=64", "agent.price_every=128", "checkpoint_every=256",
    "evaluate_every=256", "evaluate_seeds=1", "evaluate_duration=40", "duration=40",
    "suite.only=[steady_40]",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(compose, tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    config = compose_train(compose)
    training = Training(config, folder)
    calls = []
    training.run(lambda what, done, total: calls.append((what, done, total)))
    return training, folder, calls


def compose_train(compose, *overrides):
    import hydra

    from experiments.app import schemas

    schemas.register()
    with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        return typed(TrainConfig, hydra.compose("train", [*TINY, *overrides]))


def test_the_files_are_there(trained):
    _, folder, _ = trained
    assert {path.name for path in folder.iterdir()} == {
        "bundle", "checkpoint.pt", "config.yaml", "evaluations.json", "progress.csv",
    }  # fmt: skip
    files = {"bundle.json", "card.md", "policy.pt"}
    assert {path.name for path in (folder / "bundle").iterdir()} == files


def test_progress_reaches_the_end_and_never_falls(trained):
    _, _, calls = trained
    done = [number for what, number, _ in calls if what == "training"]
    assert done == sorted(done)
    assert done[-1] == 512


def test_evaluations_are_of_the_suite_and_relative_to_baseline(trained):
    training, folder, _ = trained
    rows = json.loads((folder / "evaluations.json").read_text())
    assert [row["steps"] for row in rows] == [256, 512]
    assert set(rows[0]["scenarios"]) == {"steady_40"}
    held = Static()
    held.bind(training.evaluation.context)

    class Highest:
        def predict(self, *arguments, **options):
            return held.predict(*arguments, **options)

    baseline = training.evaluation.run(Highest())
    assert baseline["scenarios"]["steady_40"]["tokens_per_joule_relative"] == pytest.approx(1.0)
    assert baseline["scenarios"]["steady_40"]["qos_violation_rate"] == 0.0


def test_the_log_has_constraints_and_rewards(trained):
    _, folder, _ = trained
    log = pandas.read_csv(folder / "progress.csv")
    assert {"constraints/switching_rate", "rollout/reward_mean"} <= set(log)
    names = [name for name in log if re.fullmatch(r"constraints/qos/[\d.]+_price", name)]
    assert len(names) > 1  # one for each limit that was asked for
    prices = log[names].stack().dropna()  # none where the warm-up took all
    assert len(prices) > 0
    assert prices.between(0.05, 8.0).all()


def test_the_bundle_plays_what_was_trained(trained):
    training, folder, _ = trained
    agent = Agent(bundle=str(folder))
    agent.bind(training.evaluation.context)
    layout = training.evaluation.context.layout
    seen = np.random.default_rng(0).uniform(0, 1, (100, len(layout.high))).astype(np.float32)
    budget = layout.index("power_budget_w")
    seen[:, budget] = layout.high[budget]  # none: the shield lets every action through
    asked = with_asked(seen, agent.violation_limit, agent.switch_price)
    expected, _ = training.model.predict(asked, deterministic=True)
    np.testing.assert_array_equal(agent.predict(seen)[0], expected)
    facts = agent.facts
    assert facts.evaluation["steps"] == 512
    assert facts.configuration["agent"]["steps"] == 512
    assert set(facts.calibrations) <= set(catalog.names("calibration"))


def test_the_same_seed_trains_the_same_agent(trained, compose, tmp_path):
    _, folder, _ = trained
    again = Training(compose_train(compose), tmp_path)
    again.run(lambda *_: None)
    ours = torch.load(folder / "bundle" / "policy.pt", weights_only=True)
    theirs = torch.load(tmp_path / "bundle" / "policy.pt", weights_only=True)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_a_resumed_training_goes_on_where_it_was(compose, tmp_path):
    """A training cut at half resumes: same parameters, optimiser, prices and progress."""
    cut = Training(compose_train(compose, "agent.steps=256"), tmp_path / "cut")
    cut.run(lambda *_: None)
    config = compose_train(compose, f"resume={tmp_path / 'cut'}")
    resumed = Training(config, tmp_path / "resumed")
    steps = []
    start = resumed.env.prices["qos/0.1"]
    evaluation = resumed.run(lambda what, done, total: steps.append(done))
    assert steps[0] >= 256
    assert evaluation["steps"] == 512
    assert cut.env.prices["qos/0.1"] != start
    rows = json.loads((tmp_path / "resumed" / "evaluations.json").read_text())
    assert [row["steps"] for row in rows] == [256, 512]


RECIPES = {
    "ppo": (),
    "ppo with a memory": ("agent.memory.entries=[running,output_tok_s]",),
    "recurrent_ppo": ("agent=recurrent_ppo", "agent.arguments.policy_kwargs.lstm_hidden_size=8"),
    "sac": (
        "agent=sac", "agent.servers=4", "agent.steps=512", "agent.price_every=128",
        "agent.arguments.buffer_size=400", "agent.arguments.learning_starts=64",
        "agent.arguments.batch_size=32",
    ),
    "noise that depends on the state": (
        "++agent.arguments.use_sde=true", "agent.action=continuous",
    ),
}  # fmt: skip


def compose_recipe(compose, name, *more):
    ours = [text for text in TINY if not (name == "sac" and text.startswith("agent."))]
    import hydra

    from experiments.app import schemas

    schemas.register()
    recipe = [*RECIPES[name], *more, "checkpoint_every=128"]
    with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        node = hydra.compose("train", [*RECIPES[name][:1], *ours, *recipe])
        return typed(TrainConfig, node)


@pytest.mark.parametrize(
    "name",
    ["ppo", "ppo with a memory", pytest.param("recurrent_ppo", marks=pytest.mark.long), "sac",
     pytest.param("noise that depends on the state", marks=pytest.mark.long)],
)  # fmt: skip
def test_a_resumed_training_equals_the_uninterrupted_one_to_the_last_bit(compose, tmp_path, name):
    """Cut in the middle of an episode, and some rollouts after the checkpoint."""
    config = compose_recipe(compose, name)
    Training(config, tmp_path / "whole").run(lambda *_: None)

    def stop(what, done, total):
        if done >= 384:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Training(config, tmp_path / "cut").run(stop)
    assert not (tmp_path / "cut" / "bundle").exists()
    at = int(kept(tmp_path / "cut" / CHECKPOINT_FILE)["steps"])
    assert at % (4 * 80) != 0, "an episode ends there"
    assert at < 384
    np.random.seed(99)  # noqa: NPY002 - another process draws otherwise
    torch.manual_seed(99)
    again = resumed_config(compose_train(compose, f"resume={tmp_path / 'cut'}"), [])
    Training(again, tmp_path / "rest").run(lambda *_: None)

    ends = [kept(tmp_path / folder / CHECKPOINT_FILE) for folder in ("whole", "rest")]
    assert_same(*(end["parameters"] for end in ends))
    assert_same(*(end["replay"] for end in ends))
    assert ends[0]["prices"] == ends[1]["prices"]
    assert ends[0]["random"]["numpy"] == ends[1]["random"]["numpy"]
    assert torch.equal(ends[0]["random"]["torch"], ends[1]["random"]["torch"])
    assert ends[0]["episode"]["begin"] == ends[1]["episode"]["begin"]
    whole, rest = (tmp_path / folder / "evaluations.json" for folder in ("whole", "rest"))
    assert whole.read_text() == rest.read_text()
    logs = [pandas.read_csv(tmp_path / folder / "progress.csv") for folder in ("whole", "rest")]
    clock = ["time/fps", "time/time_elapsed", "time/iterations", "time/episodes"]
    logs = [log.drop(columns=clock, errors="ignore") for log in logs]
    if name != "sac":  # it logs when episodes end, which Stable-Baselines3 counts from a start
        pandas.testing.assert_frame_equal(logs[0], logs[1][logs[0].columns])


def assert_same(one, other, place=""):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, list):
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{place}[{index}]")
    else:
        assert one == other, place


def test_secrets_of_a_tracker_are_not_written_down(compose, tmp_path, monkeypatch):
    def refuse(self, facts):
        raise ConfigurationError("nobody answers")

    monkeypatch.setattr(Mlflow, "follow", refuse)
    uri = "http://me:pa55word@127.0.0.1:9"
    config = compose_train(compose, "agent.steps=256", "tracker=mlflow", f"tracker.uri='{uri}'")
    with pytest.raises(ConfigurationError):
        Training(config, tmp_path).run(lambda *_: None)
    assert "http://***@127.0.0.1:9" in (tmp_path / "config.yaml").read_text()
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or b"pa55word" not in file.read_bytes(), file


def kept(file):
    """Returns what a checkpoint holds."""
    return torch.load(io.BytesIO(read_sealed(file, 1 << 30)), weights_only=True)


def test_a_checkpoint_of_which_a_bit_is_another_is_refused(compose, tmp_path):
    Training(compose_train(compose, "agent.steps=256"), tmp_path / "cut").run(lambda *_: None)
    file = tmp_path / "cut" / CHECKPOINT_FILE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    training = Training(compose_train(compose, f"resume={tmp_path / 'cut'}"), tmp_path / "rest")
    with pytest.raises(ConfigurationError, match=r"resume: .*checkpoint\.pt: not as it was"):
        training._resume()


def test_a_configuration_that_was_edited_is_told_and_evaluations_are_the_checkpoints(
    compose, tmp_path, caplog
):
    Training(compose_train(compose, "agent.steps=256"), tmp_path / "cut").run(lambda *_: None)
    file = tmp_path / "cut" / "evaluations.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([{**rows[0], "mean": {}}]))
    training = Training(compose_train(compose, f"resume={tmp_path / 'cut'}"), tmp_path / "rest")
    training._resume()
    assert training.evaluations == rows
    assert "config.yaml is not the configuration" in caplog.text


def test_a_simulator_that_behaves_otherwise_is_told(compose, tmp_path, caplog):
    Training(compose_train(compose, "agent.steps=256"), tmp_path / "cut").run(lambda *_: None)
    file = tmp_path / "cut" / CHECKPOINT_FILE
    content = kept(file)
    content["last"]["observations"] += 0.5
    buffer = io.BytesIO()
    torch.save(content, buffer)
    file.write_bytes(sealed(buffer.getvalue()))
    training = Training(compose_train(compose, f"resume={tmp_path / 'cut'}"), tmp_path / "rest")
    training._resume()
    assert "do not behave as they did" in caplog.text


@pytest.mark.parametrize("kind", [*ODD, "empty", "damaged"])
def test_a_checkpoint_that_is_none_is_named(compose, tmp_path, kind):
    file = tmp_path / CHECKPOINT_FILE
    if kind in ODD:
        put_odd(file, kind)
    else:
        file.write_bytes(b"" if kind == "empty" else b"PK damaged")
    training = Training(compose_train(compose, f"resume={tmp_path}"), tmp_path / "rest")
    with pytest.raises(ConfigurationError, match=r"resume: .*checkpoint\.pt"):
        training._resume()


def test_the_command_runs_and_names_mistakes(command, tmp_path):
    out = command(main, *TINY)
    assert out.code == 0, out.err
    assert "Held-out scenarios after 512 decisions" in out.out
    cases = {
        "agent.arguments.n_stepz=3": "n_stepz",
        "mixture.prompt_scale=[2,1]": "mixture.prompt_scale",
        "constraints.qos.limit=-1": "constraints.qos.limit",
        f"resume={tmp_path}/nothing": "resume",
        "agent=nonsense": "nonsense",
    }
    for override, word in cases.items():
        override = f"+{override}" if "stepz" in override else override
        rest = () if "resume" in override else (*TINY, f"hydra.run.dir={tmp_path / 'other'}")
        out = command(main, *rest, override)
        assert out.code == 1, override
        assert word in out.err
        assert "Traceback" not in out.err


def test_a_training_whose_torch_device_had_its_former_key_goes_on(compose, tmp_path, caplog):
    config = compose_train(compose, "agent.steps=256")
    training = Training(config, tmp_path / "cut")
    training.run(lambda *_: None)
    file = tmp_path / "cut" / "config.yaml"
    now = file.read_text()
    assert "\ntorch_device: cpu\n" in now
    file.write_text(now.replace("\ntorch_device: cpu\n", "\ndevice: cpu\n"))
    again = resumed_config(compose_train(compose, f"resume={tmp_path / 'cut'}"), [])
    assert again.torch_device == "cpu"
    former = {**kept_configuration(again), "device": "cpu"}
    del former["torch_device"]
    assert training._configuration() == digest(former)
    Training(again, tmp_path / "rest")._resume()
    assert "is not the configuration" not in caplog.text


def test_a_resumed_training_cannot_be_reconfigured(command, tmp_path):
    out = command(main, f"resume={tmp_path}", "agent.steps=5")
    assert out.code == 1
    assert "agent cannot be changed" in out.err


def test_returns_agree_with_the_summary():
    """What an agent earns is the energy and the QoS that ``summary.json`` reports."""
    scenario = SuiteScenario(workload={"base": "poisson_gsm8k", "load": 0.9})
    env = scenario.make(action="grid", reward="constrained", interval_s=0.5, duration_s=90.0)
    episodes = Episodes({"one": env}, seeds=[7], duration_s=90.0)
    rated, capacity = env.setting.rated_power_w, env.setting.capacity_tok_s
    for cap in (150.0, 200.0, 400.0):
        controller = Static(power_cap_w=cap)
        controller.bind(env.context)
        assignments = [Assignment(controller, np.array([0]))]
        (episode,) = episodes._run(assignments)
        (metrics,) = episodes.run(assignments)["one"]
        earned = episode.table["reward_efficiency"].sum() * rated * 0.5
        worth = metrics.output_tokens * rated / capacity - metrics.energy_gpu_j
        assert earned == pytest.approx(worth, rel=1e-9)
        evaluated = (90.0 - env.context.qos.warmup_s) / 0.5
        assert episode.table["cost"].sum() == metrics.qos_violation_rate * evaluated
        parts = [n for n in episode.table.names if n.startswith("reward_")]
        total = sum(episode.table[name].sum() for name in parts)
        assert metrics.reward_mean * 180 == pytest.approx(total)


@pytest.mark.long
def test_a_killed_training_resumes_to_the_same_quality(tmp_path):
    """``kill -9`` halfway; the resumed agent ends within noise of an uninterrupted one."""
    steps = 200_000
    options = [
        "agent.servers=64", f"agent.steps={steps}", "agent.arguments.batch_size=1024",
        "agent.price_every=4096", "checkpoint_every=40000", "evaluate_every=1000000",
        "evaluate_seeds=4", "evaluate_duration=300", "mixture.domain_randomization=false",
    ]  # fmt: skip
    command = [sys.executable, "-m", "experiments.train"]
    environment = {**os.environ, "PALS_CACHE": str(tmp_path / "cache")}
    whole, cut, rest = (tmp_path / name for name in ("whole", "cut", "rest"))
    subprocess.run(
        [*command, *options, f"hydra.run.dir={whole}"], cwd=ROOT, env=environment, check=True
    )
    process = subprocess.Popen(
        [*command, *options, f"hydra.run.dir={cut}"], cwd=ROOT, env=environment
    )
    deadline = time.monotonic() + 1800
    while _steps(cut) < steps // 3:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cut / "bundle").exists()
    assert _steps(cut) < steps
    subprocess.run(
        [*command, f"resume={cut}", f"hydra.run.dir={rest}"], cwd=ROOT, env=environment, check=True
    )
    ends = [json.loads((f / "evaluations.json").read_text())[-1]["mean"] for f in (whole, rest)]
    assert ends[1]["tokens_per_joule_relative"] == pytest.approx(
        ends[0]["tokens_per_joule_relative"], abs=0.08
    )


def _steps(folder):
    try:
        return int(torch.load(folder / CHECKPOINT_FILE, weights_only=True)["steps"])
    except FileNotFoundError:
        return 0


def test_a_training_that_diverges_is_told_and_keeps_no_checkpoint(compose, tmp_path):
    config = compose_train(compose, "agent.arguments.learning_rate=1e30")
    with pytest.raises(PalsError, match=r"diverged.*lower agent\.arguments\.learning_rate"):
        Training(config, tmp_path).run(lambda *_: None)
    assert not (tmp_path / CHECKPOINT_FILE).exists()


def test_another_algorithm_is_trained_to_its_bundle(compose, tmp_path):
    config = compose_train(
        compose, "agent.algorithm=stable_baselines3.A2C", "~agent.arguments.batch_size",
        "~agent.arguments.n_epochs", "agent.steps=128",
    )  # fmt: skip
    Training(config, tmp_path).run(lambda *_: None)
    assert read_bundle(tmp_path / "bundle").algorithm == "stable_baselines3.A2C"


@pytest.mark.parametrize("seconds", ["8", "10"])
def test_an_evaluation_that_is_all_warm_up_is_refused(compose, tmp_path, seconds):
    config = compose_train(compose, f"evaluate_duration={seconds}")
    with pytest.raises(ConfigurationError, match=f"evaluate_duration: must be longer .*{seconds}$"):
        Training(config, tmp_path)
