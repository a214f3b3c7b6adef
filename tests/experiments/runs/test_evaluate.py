"""``pals_gym.evaluate``: the commands' numbers from plain Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
from support.clock_times import without_clock_times

from baselines.governor import Governor
from baselines.oracle import Oracle
from baselines.pals.controller import Pals
from envs.errors import ConfigurationError
from envs.scenario import Scenario
from experiments.compare import main as compare_main
from experiments.profiling.sweep import ProfileConfig
from experiments.runs.evaluate import evaluate
from experiments.runs.options import RunOptions
from experiments.runs.runner import execute

SCENARIO = Scenario(
    model="olmoe_1b_7b",
    server={"base": "simulated", "tensor_parallel": 1},
    objective="budget_steps",
    action={"base": "grid", "power_caps_w": [200.0, 300.0, 400.0], "max_num_seqs": [16, 64]},
    duration_s=60.0,
)
PROFILE = {"settle_s": 5.0, "measure_s": 10.0, "tensor_parallel": [1]}


@pytest.mark.parametrize(("name", "controller"), [("pals", Pals()), ("oracle", Oracle())])
def test_metrics_and_intervals_equal_those_of_a_run(
    name: str, controller: object, tmp_path: Path
) -> None:
    result = evaluate(controller, SCENARIO, seeds=[3, 4], profile=PROFILE)
    assert result.controller == type(controller).__name__
    for episode in result.episodes:
        folder = tmp_path / str(episode.seed)
        options = RunOptions(
            seed=episode.seed,
            controller=name,
            controller_name=name,
            profile=ProfileConfig(**PROFILE),
        )
        summary = execute(SCENARIO, options, folder)
        del summary["provenance"]
        expected = {"controller": name, "seed": episode.seed, **episode.metrics.to_dict()}
        told = [json.dumps(without_clock_times(item)) for item in (expected, summary)]
        assert told[0] == told[1]
        written = pandas.read_parquet(folder / "intervals.parquet")
        here = result.intervals
        own = here[here["seed"] == episode.seed].drop(columns="seed").reset_index(drop=True)
        pandas.testing.assert_frame_equal(own, written, check_exact=True)


def test_the_aggregate_equals_that_of_a_comparison(command, tmp_path: Path) -> None:
    done = command(
        compare_main, "controllers=[governor]", "seeds=3", "duration=30", "executor.jobs=1"
    )
    assert done.code == 0, done.err
    compared = json.loads((tmp_path / "out" / "comparison.json").read_text())
    result = evaluate(Governor(), Scenario(duration_s=30.0), seeds=3)
    cells = compared["controllers"]["governor"]
    assert result.seeds == compared["seeds"]
    for name, cell in result.metrics.items():
        assert cell == cells[name], name
    assert result["tokens_per_joule"] == cells["tokens_per_joule"]["iqm"]


def test_a_controller_is_not_changed_and_may_be_a_name() -> None:
    scenario = Scenario(duration_s=20.0)
    controller = Governor()
    first, again = (evaluate(controller, scenario, seeds=1) for _ in range(2))
    named = evaluate("governor", scenario, seeds=1)
    assert not hasattr(controller, "context")
    assert first.metrics == again.metrics == named.metrics
    assert named.controller == "governor"


def test_the_result_can_be_written_down() -> None:
    result = evaluate("static", Scenario(duration_s=40.0), seeds=2)
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text)["seeds"] == [0, 1]
    frame = result.intervals
    assert len(frame) == 160
    assert np.isfinite(frame["energy_gpu_j"]).all()
    assert result["qos_violation_rate"] == 0.0  # it is the Baseline
    assert result["slo_violation_rate"] is None  # none was asked for
    with pytest.raises(KeyError, match=r"'tokens_per_jule'; did you mean 'tokens_per_joule'\?"):
        result["tokens_per_jule"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 0}, "seeds: must be"),
        ({"seeds": 1.5}, r"seeds: must be .* got 1\.5"),
        ({"seeds": 2**70}, "seeds: must be .* up to 100,000"),
        ({"seeds": True}, "seeds: must be"),
        ({"seeds": [0.5]}, "seeds: must be"),
        ({"seeds": "12"}, "seeds: must be"),
        ({"seeds": iter(int, 1)}, "seeds: must be"),
        ({"controller": object()}, "controller: object has not all of predict, bind"),
        ({"scenario": 5}, "scenario: must be an object of envs.scenario.Scenario, got 5"),
        ({"profile": 5}, "profile: must hold keys and values"),
        ({"profile": {"setle_s": 1.0}}, "profile.setle_s: no such key; did you mean 'settle_s'"),
        ({"controller": Governor}, r"controller: Governor is a class.* Governor\(\)"),
        ({"scenario": Scenario(duration_s=0.1)}, "duration: must be at least one interval"),
        ({"controller": "palz"}, "controller: no choice named 'palz'"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        evaluate(**{"controller": "static", **arguments})  # type: ignore[arg-type]
