"""The benchmark: its statistics by hand, its goals, its files, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments.benchmark import main
from experiments.benchmarking.criteria import degeneracies, goals
from experiments.benchmarking.metrics import difference, headroom, improvement, overall
from experiments.benchmarking.scenario_runs import ScenarioRuns
from experiments.evaluation.metric_table import TOKENS_PER_JOULE_RELATIVE
from experiments.evaluation.statistics import interquartile_mean, probability_of_improvement
from experiments.evaluation.suites import SuiteScenario

BASE = {
    "tokens_per_joule": 1.0, "tokens_per_joule_system": 0.5, "output_tokens": 1000,
    "knob_changes": 0, "duration_s": 600.0, "qos_violation_rate": 0.0,
    "qos_violation_rate_within_budget": 0.0, "slo_violation_rate": None,
    "budget_overshoot_rate": None, "ttft_p99_s": 0.2, "tpot_p99_s": 0.03,
}  # fmt: skip
SEEDS = 4


def runs(efficiency, violations, **others):
    """Summaries of some seeds; a little noise that is the same for every controller."""
    return [
        {**BASE, "tokens_per_joule": efficiency + 0.001 * n, "qos_violation_rate": violations,
         "qos_violation_rate_within_budget": violations, **others}
        for n in range(SEEDS)
    ]  # fmt: skip


def results(**agent):
    """Two scenarios; the agent is better than all rivals unless told otherwise."""
    one = {
        "static": runs(1.0, 0.0),
        "pals": runs(1.2, 0.08),
        "pals_symmetric": runs(1.22, 0.15),
        "governor": runs(1.25, 0.05),
        "oracle": runs(1.2, 0.03),
        "ppo": runs(**{"efficiency": 1.3, "violations": 0.01, **agent}),
        "ppo_cap": runs(1.28, 0.02),
    }
    return {"calm": one, "moving": {name: list(rows) for name, rows in one.items()}}


SCENARIOS = {
    "calm": SuiteScenario(batch_matters=True),
    "moving": SuiteScenario(load_moves=True),
}


def met(found):
    return {goal.name: goal.met for goal in found}


def test_a_better_agent_meets_every_goal():
    verdicts = met(goals(results(), SCENARIOS, "ppo", "ppo_cap"))
    assert len(verdicts) == 9
    assert set(verdicts.values()) == {True}


@pytest.mark.parametrize(
    ("agent", "missed"),
    [
        ({"efficiency": 1.1}, {"governor", "as efficient as pals,", "headroom", "cap only"}),
        ({"efficiency": 1.1, "violations": 0.08}, {"less efficient", "at most 2%", "cap only"}),
        ({"violations": 0.04}, {"at most 2%", "cap only"}),
        ({"violations": 0.09}, {"at most 2%", "cap only", "governor", "as efficient as pals,"}),
        ({"ttft_p99_s": 3.0}, {"TTFT"}),
    ],
)
def test_a_worse_agent_misses_the_goals_it_misses(agent, missed):
    verdicts = met(goals(results(**agent), SCENARIOS, "ppo", "ppo_cap"))
    failed = {name for name, value in verdicts.items() if value is False}
    for words in missed:
        assert any(words in name for name in failed), (words, failed)
    if agent == {"ttft_p99_s": 3.0}:
        assert len(failed) == 1


@pytest.mark.parametrize(
    ("agent", "word"),
    [
        ({"output_tokens": 900}, "serves"),
        ({"knob_changes": 1200}, "changes"),
        ({"violations": 0.3}, "persistent"),
    ],
)
def test_degenerate_agents_are_found(agent, word):
    assert all(goal.met for goal in degeneracies(results(), "ppo"))
    verdicts = met(degeneracies(results(**agent), "ppo"))
    assert [word in name for name, value in verdicts.items() if value is False] == [True]


def test_metrics_by_hand():
    found = results()
    efficiency = overall(found, "ppo", TOKENS_PER_JOULE_RELATIVE)
    expected = np.mean([(1.3 + 0.001 * n) / (1.0 + 0.001 * n) for n in range(SEEDS)])
    assert efficiency.mean.value == pytest.approx(expected)
    gap = difference(found, "ppo", "pals", "qos_violation_rate")
    assert gap == pytest.approx((-0.07, -0.07, -0.07))
    fraction = headroom(found, "calm", "ppo")
    assert fraction.value == pytest.approx(0.3 / 0.2, rel=0.01)
    assert improvement(found, "ppo", "pals", TOKENS_PER_JOULE_RELATIVE).value == 1.0
    assert overall(found, "ppo", "slo_violation_rate") is None


def test_nothing_is_captured_where_the_oracle_gains_nothing():
    found = results()
    found["calm"]["oracle"] = runs(1.005, 0.0)
    assert headroom(found, "calm", "ppo") is None


def test_statistics_agree_with_rliable():
    metrics = pytest.importorskip("rliable.metrics")
    rng = np.random.default_rng(0)
    first, second = rng.normal(1.0, 0.3, (8, 5)), rng.normal(1.1, 0.3, (6, 5))
    assert interquartile_mean(first) == pytest.approx(metrics.aggregate_iqm(first))
    assert probability_of_improvement(first, second).value == pytest.approx(
        metrics.probability_of_improvement(first, second)
    )


TINY = (
    "duration=40", "seeds=2", "controllers=[static,governor]", "subject=governor",
    "restricted=null", "executor.jobs=1",
    "suite.only=[steady_40,unseen_model_70]",
)  # fmt: skip


def test_the_command_writes_its_report_and_repeats_nothing(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = command(main, *TINY, f"report={tmp_path / 'docs'}")
    assert out.code == 0, out.err
    folder = tmp_path / "out"
    kept = json.loads((folder / "results.json").read_text())
    assert set(kept) == {"steady_40", "unseen_model_70"}
    assert [row["seed"] for row in kept["steady_40"]["governor"]] == [1_000_000, 1_000_001]
    for place in (folder, tmp_path / "docs"):
        text = (place / "results.md").read_text()
        assert "### unseen_model_70" in text
        assert "`governor`" in text
        for line in text.splitlines():
            if line.startswith("!["):
                saved_plot = place / line.split("(")[1].rstrip(")")
                assert saved_plot.read_bytes().startswith(b"\x89PNG")

    def fail(*_):
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(ScenarioRuns, "_assignments", fail)
    assert command(main, *TINY).code == 0
    out = command(main, *TINY, "seeds=3")
    assert out.code == 1
    assert "run again" in out.err


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("controllers=[governor]", "controllers: 'static'"),
        ("subject=ppo", "subject: 'ppo'"),
        ("seeds=1", "seeds"),
        ("bundles=[/nowhere]", "bundle"),
        ("suite.only=[nowhere]", "suite.only"),
    ],
)
def test_mistakes_are_named_before_anything_runs(command, tmp_path, override, word):
    out = command(main, *TINY, override)
    assert out.code == 1
    assert word in out.err
    assert not (tmp_path / "out" / "runs").exists()
