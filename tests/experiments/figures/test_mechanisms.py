"""The mechanisms tried for a claim: what is run, how it is compared, what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from envs import catalog
from envs.errors import ConfigurationError
from experiments.evaluation.suites import SuiteScenario
from experiments.figures.claims import DIRECTION, NOT_REPRODUCED, REPRODUCED
from experiments.figures.config import shortened
from experiments.figures.context import FigureContext
from experiments.figures.fig01.figure import Fig01
from experiments.figures.mechanisms import data
from experiments.figures.mechanisms.config import RATIO, Trial, merged
from experiments.figures.mechanisms.figure import Mechanisms, what_would_settle

CONTEXT = cast(FigureContext, None)


@pytest.fixture
def mechanisms() -> Mechanisms:
    return cast(Mechanisms, catalog.build("figure", "mechanisms"))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> dict[str, SuiteScenario]:
    """What was run, by name; efficiency grows with the batch limit and falls with nodes."""
    scenarios: dict[str, SuiteScenario] = {}

    def run(
        context: Any, stage: str, own: Mapping[str, SuiteScenario], controllers: Mapping[str, Any],
        **how: Any,
    ) -> dict[str, dict[str, list[dict[str, float]]]]:  # fmt: skip
        scenarios.update(own)
        found: dict[str, dict[str, list[dict[str, float]]]] = {}
        for name, scenario in own.items():
            nodes = dict(scenario.server).get("data_parallel", 1)
            found[name] = {
                who: [
                    {"tokens_per_joule": choice["max_num_seqs"] / nodes * (1.0 + 0.001 * seed)}
                    for seed in range(how["seeds"])
                ]
                for who, choice in controllers.items()
            }
        return found

    monkeypatch.setattr(data, "run_scenarios", run)
    return scenarios


def trial(**changes: Any) -> Trial:
    choice = {"base": "static", "max_num_seqs": 64}
    parts: dict[str, Any] = {
        "claim": "fewer nodes", "paper": [0.5], "models": ["olmoe_1b_7b"], "of": choice,
        "over": [choice], "scenario": {"server": {"base": "simulated", "tensor_parallel": 1}},
        "apart": {"server": {"data_parallel": 2}}, "mechanisms": {"as above": {}},
    }  # fmt: skip
    return Trial(**{**parts, **changes})


def outcomes(one: Trial) -> Sequence[data.Outcome]:
    return data.outcomes(CONTEXT, "nodes", one, seeds=2, duration_s=60.0)


def test_only_the_numerator_has_what_is_apart(ran: dict[str, SuiteScenario]) -> None:
    (found,) = outcomes(trial())
    assert found.ours.value == pytest.approx(0.5)
    assert found.verdict == REPRODUCED
    servers = {name: dict(scenario.server) for name, scenario in ran.items()}
    assert servers["nodes-as above-apart-olmoe_1b_7b"]["data_parallel"] == 2
    assert "data_parallel" not in servers["nodes-as above-olmoe_1b_7b"]


def test_a_mechanism_changes_what_it_names_and_the_best_rival_counts(
    ran: dict[str, SuiteScenario],
) -> None:
    rivals = [{"base": "static", "max_num_seqs": number} for number in (16, 32)]
    one = trial(
        over=rivals, apart={}, paper=[2.0],
        mechanisms={
            "as above": {},
            "three times": {"of": {"base": "static", "max_num_seqs": 96}},
            "none": {"of": {"base": "static", "max_num_seqs": 32}},
            "another GPU": {"scenario": {"gpu": "h100_sxm"}},
        },
    )  # fmt: skip
    found = outcomes(one)
    assert [outcome.ours.value for outcome in found] == pytest.approx([2.0, 3.0, 1.0, 2.0])
    assert [outcome.verdict for outcome in found] == [
        REPRODUCED, DIRECTION, NOT_REPRODUCED, REPRODUCED,
    ]  # fmt: skip
    assert ran["nodes-another GPU-olmoe_1b_7b"].gpu == "h100_sxm"
    said = what_would_settle(trial(paper=[9.0], claim="more"), found)
    assert said.startswith("brought back by as above; another GPU.")


def test_mechanisms_that_only_read_other_metrics_share_their_runs(
    ran: dict[str, SuiteScenario],
) -> None:
    one = trial(mechanisms={"as above": {}, "again": {"metric": "tokens_per_joule"}})
    first, second = outcomes(one)
    assert first.ours == second.ours
    assert not any("again" in name for name in ran)


def test_what_nothing_brings_back_says_what_came_nearest(ran: dict[str, SuiteScenario]) -> None:
    one = trial(paper=[1.5], mechanisms={"as above": {}})
    said = what_would_settle(one, outcomes(one))
    assert "brought back by none of the 1 tried; nearest is 'as above' with 0.500" in said
    assert "the opposite effect" in said


def test_nested_parts_are_merged_and_choices_replaced() -> None:
    parts = {"workload": {"base": "closed_loop", "concurrency": 128}, "gpu": "a"}
    assert merged(parts, {"workload": {"concurrency": 1}, "gpu": "b"}) == {
        "workload": {"base": "closed_loop", "concurrency": 1}, "gpu": "b",
    }  # fmt: skip
    assert merged(parts, {"workload": {"base": "bursty"}})["workload"] == {"base": "bursty"}


def test_a_misspelt_change_is_named() -> None:
    with pytest.raises(ConfigurationError, match="scenary cannot be changed"):
        trial(mechanisms={"wrong": {"scenary": {}}}).under("wrong")


def test_every_mechanism_that_is_tried_can_be_built(mechanisms: Mechanisms, tmp_path: Path) -> None:
    assert len(mechanisms.trials) >= 7
    for name, one in mechanisms.trials.items():
        assert len(one.mechanisms) >= 7, name
        for mechanism in one.mechanisms:
            own = one.under(mechanism)
            if own.kind != RATIO:
                continue
            catalog.build("controller", own.of)
            for parts in (own.scenario, merged(own.scenario, own.apart)):
                scenario = SuiteScenario(model=own.models[0], **parts)
                assert scenario.built, mechanism


def test_a_quick_look_bounds_seeds_and_episodes(mechanisms: Mechanisms) -> None:
    quick = cast(Mechanisms, shortened(mechanisms, 2, 120.0))
    assert (quick.seeds, quick.duration_s, quick.cluster_duration_s) == (2, 120.0, 120.0)
    whole = cast(Mechanisms, shortened(mechanisms, None, None))
    assert whole == mechanisms
    full = cast(Fig01, shortened(cast(Fig01, catalog.build("figure", "fig01")), 3, 60.0))
    assert full.steady.seeds == 3


@pytest.mark.parametrize("group", ["figure", "shift", "suite"])
def test_what_scenarios_are_called_names_files(group: str) -> None:
    """Their runs are kept in folders of these names."""

    def keys(content: Any) -> Iterator[str]:
        if isinstance(content, dict):
            for key, value in content.items():
                if key != "defaults":
                    yield str(key)
                    yield from keys(value)
        elif isinstance(content, list):
            for value in content:
                yield from keys(value)

    files = sorted((Path(__file__).resolve().parents[3] / "conf" / group).glob("*.yaml"))
    assert files
    named = {key for file in files for key in keys(yaml.safe_load(file.read_text()))}
    assert not {name for name in named if {"/", "\\"} & set(name)}
