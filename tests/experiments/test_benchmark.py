"""The benchmark: its statistics by hand, its goals, its files, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments.benchmark import main
from experiments.benchmarking.answer import answer
from experiments.benchmarking.criteria import degeneracies, goals
from experiments.benchmarking.front_goals import front_goals
from experiments.benchmarking.front_tables import (
    beside_table,
    families_table,
    front_notes,
    levels_table,
)
from experiments.benchmarking.fronts import (
    Pair,
    fronts_of,
    operating_point,
    point_name,
    probability_at,
    scenarios_with_choice,
)
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


def with_fronts():
    """The agent dominates; the planner that knows the future has twice its gain."""
    found = results()
    fronts = {
        "ppo": [(1.10, 0.005), (1.20, 0.02), (1.30, 0.05)],
        "pals_queue_aware": [(1.05, 0.01), (1.25, 0.06)],
        "clairvoyant": [(1.20, 0.0), (1.40, 0.02), (1.60, 0.05)],
    }
    points = {
        name: {point_name(name, n): runs(*pair) for n, pair in enumerate(own)}
        for name, own in fronts.items()
    }
    for own in found.values():
        own |= {name: rows for rows_of in points.values() for name, rows in rows_of.items()}
    found["no choice"] = {name: runs(1.0, 0.0) for name in found["calm"]}
    return found, {name: list(own) for name, own in points.items()}


def test_fronts_at_equal_violations():
    found, points = with_fronts()
    assert scenarios_with_choice(found) == ["calm", "moving"]
    fronts = fronts_of(found, points)
    assert [at.value for at in fronts["ppo"].statistics.at] == pytest.approx(
        [1.1 + 0.1 / 3, 1.2, 1.3], abs=0.002
    )
    half = [part.value for part in fronts["ppo"].headroom[1:]]
    assert half == pytest.approx([0.5, 0.5], abs=0.01)
    assert [part.value for part in fronts["clairvoyant"].headroom] == pytest.approx([1.0] * 3)
    gap = Pair(fronts["ppo"].episodes, fronts["pals_queue_aware"].episodes, [0.02]).difference()[0]
    assert gap.value == pytest.approx(1.2 - 1.09, abs=0.002)
    assert gap.low > 0.1
    assert operating_point(fronts["ppo"].episodes, 0.02) == 1
    assert operating_point(fronts["pals_queue_aware"].episodes, 0.005) is None
    assert probability_at(fronts["ppo"].episodes, fronts["clairvoyant"].episodes, 0.02).value == 0.0
    assert probability_at(fronts["ppo"].episodes, fronts["ppo"].episodes, 0.02).value == 0.5


def test_a_rival_that_keeps_to_a_level_by_luck_is_no_reason_to_doubt():
    """Its episodes violate 1 to 5 % of the time: at 3 % it is there in half of the resamples."""
    found, points = with_fronts()
    lucky = np.linspace(0.01, 0.05, SEEDS)
    for own in found.values():
        own["pals_queue_aware#0"] = [
            row | {"qos_violation_rate_within_budget": rate}
            for row, rate in zip(runs(1.05, 0.0), lucky, strict=True)
        ]
        own["pals_queue_aware#1"] = runs(1.05, 0.2)
    fronts = fronts_of(found, points)
    mine, theirs = fronts["ppo"].episodes, fronts["pals_queue_aware"].episodes
    assert Pair(mine, theirs, [0.03]).difference()[0] is None
    assert Pair(mine, theirs, [0.001, 0.03, 0.1]).above().tolist() == [0.0, 1.0, 1.0]
    assert Pair(theirs, theirs, [0.03]).above().tolist() == [0.0]
    assert [goal.met for goal in front_goals(fronts, "ppo")][-1]
    for own in found.values():  # where it is there it is as good
        own["pals_queue_aware#0"] = [
            row | {"tokens_per_joule": 1.3} for row in own["pals_queue_aware#0"]
        ]
    goal = front_goals(fronts_of(found, points), "ppo")[-1]
    assert not goal.met
    assert "undecided at 3" in goal.found


def test_the_answer_says_by_how_much_of_what_was_possible():
    found, points = with_fronts()
    text = answer(fronts_of(found, points), "ppo")
    assert "by how much of what was possible? Yes: at 2 % of violations `ppo` has 1.2" in text
    assert "joule, 50 [50, 50] % of what was possible; `pals_queue_aware`" in text
    assert "`pals_queue_aware`, the best front of PALS, has 1.0" in text
    assert "The difference is +0.11" in text
    found["calm"] |= {"mpc#0": runs(1.3, 0.01)}
    found["moving"] |= {"mpc#0": runs(1.3, 0.01)}
    found["no choice"] |= {"mpc#0": runs(1.0, 0.0)}
    beside = answer(fronts_of(found, points | {"mpc": ["mpc#0"]}), "ppo")
    assert "It does not beat the planner on a twin, `mpc`" in beside


def test_the_answer_says_so_when_the_agent_does_not_win():
    found, points = with_fronts()
    points["ppo"], points["pals_queue_aware"] = points["pals_queue_aware"], points["ppo"]
    assert "? No: at 2 %" in answer(fronts_of(found, points), "ppo")
    same = fronts_of(found, {"ppo": points["ppo"], "pals": points["ppo"]})
    assert "It is not decided: at 2 %" in answer(same, "ppo")
    late = fronts_of(found, {"ppo": points["ppo"][1:], "pals": points["pals_queue_aware"]})
    text = answer(late, "ppo")
    assert "does not keep to 2 % reliably, its fewest are 6 %" in text
    assert "neither" in answer(late, "sac")
    nobody = fronts_of(found, {"ppo": points["ppo"], "pals": points["pals_queue_aware"][2:]})
    assert "no front of PALS keeps to that limit" in answer(nobody, "ppo")


def test_the_answer_tells_a_looser_limit_at_which_pals_is_ahead():
    found = {name: {"static": runs(1.0, 0.0)} for name in ("calm", "moving")}
    for rows in found.values():
        rows |= {"ppo": runs(1.2, 0.01), "pals": runs(1.3, 0.04), "weak": runs(1.1, 0.04)}
    late = answer(fronts_of(found, {"ppo": ["ppo"], "pals": ["pals"]}), "ppo")
    assert "Yes: at 2 %" in late
    assert "At 5 %, though, `pals` is ahead by 0.100" in late
    weak = answer(fronts_of(found, {"ppo": ["ppo"], "pals": ["weak"]}), "ppo")
    assert "though" not in weak


def test_the_answer_names_another_rival_that_is_ahead():
    found = {name: {"static": runs(1.0, 0.0)} for name in ("calm", "moving")}
    for rows in found.values():
        rows |= {"ppo": runs(1.2, 0.01), "pals": runs(1.1, 0.01), "clairvoyant": runs(1.6, 0.0)}
        rows |= {"clock_lock": runs(1.3, 0.04), "slack": runs(1.25, 0.04), "mpc": runs(1.5, 0.01)}
    fronts = fronts_of(found, {name: [name] for name in found["calm"] if name != "static"})
    assert (
        " Of all other rivals `clock_lock` is furthest ahead of `ppo` at 5 %: by 0.100"
    ) in answer(fronts, "ppo")
    del fronts["clock_lock"], fronts["slack"]
    assert "other rivals" not in answer(fronts, "ppo")


def test_controllers_that_move_the_clock_are_compared_with_such():
    """Another bound, another planner, and the agent that moves it, too."""
    found = {name: {"static": runs(1.0, 0.0)} for name in ("calm", "moving")}
    for rows in found.values():
        rows |= {"ppo": runs(1.2, 0.01), "pals": runs(1.1, 0.01), "clairvoyant": runs(1.4, 0.0)}
        rows |= {"clock_lock": runs(1.3, 0.01), "ppo_clock": runs(1.4, 0.01)}
        rows |= {"clairvoyant_clock": runs(1.5, 0.0), "mpc_clock": runs(1.45, 0.01)}
    points = {name: [name] for name in found["calm"] if name != "static"}
    fronts = fronts_of(found, points)
    part = {name: front.headroom[-1].value for name, front in fronts.items()}
    assert part["ppo"] == pytest.approx(0.5)
    assert part["clock_lock"] == pytest.approx(0.6)
    assert part["ppo_clock"] == pytest.approx(0.8)
    text = answer(fronts, "ppo")
    assert "rivals" not in text
    assert "With the SM clock as a knob, which PALS does not have, `ppo_clock` has" in text
    assert "90 [90, 90] % of what was possible" in text
    met = {goal.name: goal.met for goal in front_goals(fronts, "ppo")}
    over = "front of `ppo_clock` above that of `clock_lock` at 1 to 10 % of violations, intervals"
    assert met[f"{over} apart"]
    assert any(name.startswith("`ppo_clock` or `mpc_clock`: at least 90%") for name in met)
    assert "measured by what was possible with it" in front_notes(fronts)
    del found["calm"]["ppo_clock"], found["moving"]["ppo_clock"], points["ppo_clock"]
    assert "`clock_lock` is furthest ahead of `ppo` at 2 %" in answer(
        fronts_of(found, points), "ppo"
    )


def test_the_subject_with_another_choice_is_no_rival_of_itself():
    found = {name: {"static": runs(1.0, 0.0)} for name in ("calm", "moving")}
    for rows in found.values():
        rows |= {"ppo": runs(1.2, 0.01), "ppo_keeps_slos": runs(1.3, 0.01), "pals": runs(1.1, 0.0)}
        rows |= {"ppox": runs(1.25, 0.01)}
    points = {name: [name] for name in found["calm"] if name != "static"}
    fronts = fronts_of(found, points)
    assert not any("ppo_keeps_slos" in goal.name for goal in front_goals(fronts, "ppo"))
    assert any("`ppox`" in goal.name for goal in front_goals(fronts, "ppo"))
    text = answer(fronts, "ppo")
    assert "ppo_keeps_slos" not in text
    assert "`ppox` is furthest ahead" in text


def test_what_is_required_of_a_front():
    found, points = with_fronts()
    checked = front_goals(fronts_of(found, points), "ppo")
    assert [goal.met for goal in checked] == [False, True]
    assert "50%" in checked[0].found
    assert "`pals_queue_aware`" in checked[1].name
    points["ppo"], points["clairvoyant"] = points["clairvoyant"], points["ppo"]
    assert [goal.met for goal in front_goals(fronts_of(found, points), "ppo")] == [True, True]
    points["ppo"], points["pals_queue_aware"] = points["pals_queue_aware"], points["ppo"]
    crossed = front_goals(fronts_of(found, points), "ppo")[1]
    assert not crossed.met
    assert "below or not there at 1" in crossed.found
    assert front_goals(fronts_of(found, points), "sac") == []


def test_tables_of_fronts():
    found, points = with_fronts()
    fronts = fronts_of(found, points)
    levels = levels_table(fronts, "ppo").splitlines()
    assert len(levels) == 2 + len(fronts)
    assert "50 [50, 50] %" in levels[2]
    scenarios = {**SCENARIOS, "no choice": SuiteScenario(family="power budget")}
    scenarios["moving"] = SuiteScenario(family="latency")
    calm = {name: found[name] for name in ("calm", "moving")}
    families = families_table(calm, points, scenarios).splitlines()
    assert families[0] == "| controller | efficiency (1) | latency (1) |"
    assert families[2].startswith("| `ppo` | 1.2")
    beside = beside_table(calm, fronts, points)
    assert "$/kWh" in beside
    # 0.5 tokens per joule of the node: 0.556 kWh per million tokens
    assert "| 0.5556 | 0.05556 | 222.2 |" in beside


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
    assert set(json.loads((folder / "hashes.json").read_text())) == {"results.json", "results.md"}
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


def test_sweeps_and_tuned_fronts_are_run_and_shown(command, tmp_path):
    tuned = tmp_path / "fronts.yaml"
    tuned.write_text("slack: [{base: slack, stretch: 1.1}, {base: slack, stretch: 2.0}]\n")
    sweep = "sweeps=[{governor: {high: [1.5, 3.0]}}]"
    out = command(main, *TINY, f"fronts=[{tuned}]", sweep)
    assert out.code == 0, out.err
    folder = tmp_path / "out"
    runs_of = json.loads((folder / "results.json").read_text())["steady_40"]
    assert {"governor#0", "governor#1", "slack#0", "slack#1"} <= set(runs_of)
    text = (folder / "results.md").read_text()
    assert "| `slack` |" in text
    assert "governor#0" not in text
    assert (
        text.index("![Efficiency at every level")
        < text.index("No front of")
        < text.index("## Over all scenarios")
    )
    assert (folder / "images" / "front.png").exists()


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("sweeps=[{governor: {low: 0.1, high: 2.0}}]", "sweeps.governor"),
        ("sweeps=[{governor: {low: []}}]", "sweeps.governor"),
        ("sweeps=[{governor: {nothing: [1]}}]", "nothing"),
    ],
)
def test_fronts_that_make_no_sense_are_refused(command, override, word):
    out = command(main, *TINY, override)
    assert out.code == 1
    assert word in out.err


FAILING = '''
"""A controller that cannot be prepared."""

from dataclasses import dataclass

from pals_gym import KnobController


@dataclass(kw_only=True)
class Failing(KnobController):
    """Has no profile of its server, whatever happens."""

    def prepare(self, preparation):
        raise RuntimeError("out of order")

    def decide(self, observation, state):
        return self.context.highest, state
'''
OWN = """\
defaults:
  - /schema/{}@_here_
  - _self_
"""


def own_controllers(folder, **classes):
    """Writes files of controllers; returns the argument that has them found."""
    (folder / "conf" / "controller").mkdir(parents=True)
    for name, path in classes.items():
        (folder / "conf" / "controller" / f"{name}.yaml").write_text(OWN.format(path))
    return f"hydra.searchpath=[file://{folder / 'conf'}]"


def test_controllers_of_a_search_path_are_compared_by_name(command, tmp_path):
    found = own_controllers(tmp_path, halved="baselines/static/Static")
    own = tmp_path / "conf" / "controller" / "halved.yaml"
    own.write_text(own.read_text() + "power_cap_w: 200\n")
    names = ("controllers=[static,halved]", "subject=halved", "suite.only=[steady_40]")
    out = command(main, *TINY, *names, found)
    assert out.code == 0, out.err
    kept = json.loads((tmp_path / "out" / "results.json").read_text())["steady_40"]
    energy_j = {name: sum(row["energy_gpu_j"] for row in rows) for name, rows in kept.items()}
    assert energy_j["halved"] < 0.9 * energy_j["static"]
    own.write_text(own.read_text().replace("200", "300"))
    out = command(main, *TINY, *names, found)
    assert out.code == 0, out.err
    assert "1 run made again" in out.out


def test_who_fails_is_named_and_the_others_are_kept(command, tmp_path, monkeypatch):
    package = tmp_path / "their_lab"
    package.mkdir()
    (package / "failing.py").write_text(FAILING)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = "their_lab/failing/Failing"
    more = (own_controllers(tmp_path, broken=path, worn=path), "allow_packages=[their_lab]")
    names = ("controllers=[static,broken,worn,governor]", "suite.only=[steady_40]")
    out = command(main, *TINY, *names, *more)
    assert out.code == 1
    assert "steady_40, broken, worn: " in out.err
    assert out.err.count("out of order") == 1
    assert "Traceback" not in out.err

    def fail(*_):
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(ScenarioRuns, "_assignments", fail)
    assert command(main, *TINY, "suite.only=[steady_40]").code == 0, "governor was not kept"
