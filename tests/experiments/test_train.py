"""The command ``python -m experiments.train``: its files, resuming, and honest returns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from agents.controller import Agent
from baselines.static import Static
from envs import catalog
from experiments.app.composition import typed
from experiments.evaluation.batched_rollout import Assignment, Episodes
from experiments.evaluation.suites import SuiteScenario
from experiments.train import main
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
    assert {path.name for path in (folder / "bundle").iterdir()} == {"bundle.json", "policy.pt"}


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
    assert {"constraints/qos_rate", "constraints/qos_price", "rollout/reward_mean"} <= set(log)
    prices = log["constraints/qos_price"].dropna()  # none where the warm-up took all
    assert len(prices) > 0
    assert prices.between(0.05, 6.0).all()


def test_the_bundle_plays_what_was_trained(trained):
    training, folder, _ = trained
    agent = Agent(bundle=str(folder))
    agent.bind(training.evaluation.context)
    layout = training.evaluation.context.layout
    seen = np.random.default_rng(0).uniform(0, 1, (100, len(layout.high))).astype(np.float32)
    budget = layout.index("power_budget_w")
    seen[:, budget] = layout.high[budget]  # none: the shield lets every action through
    expected, _ = training.model.predict(seen, deterministic=True)
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
    start = resumed.env.prices["qos"]
    evaluation = resumed.run(lambda what, done, total: steps.append(done))
    assert steps[0] >= 256
    assert evaluation["steps"] == 512
    assert cut.env.prices["qos"] != start
    rows = json.loads((tmp_path / "resumed" / "evaluations.json").read_text())
    assert [row["steps"] for row in rows] == [256, 512]


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
        rest = () if "resume" in override else TINY
        out = command(main, *rest, override)
        assert out.code == 1, override
        assert word in out.err
        assert "Traceback" not in out.err


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
        evaluated = (90.0 - 30.0) / 0.5
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
