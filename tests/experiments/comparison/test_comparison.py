from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from support.clock_times import without_clock_times

from experiments.compare import main
from experiments.comparison.runner import aggregate, metric_rows

QUICK = ("duration=20", "executor.jobs=1", "controllers=[static,governor]", "seeds=3")


def summary(controller, seed, efficiency, **others):
    return {
        "controller": controller, "seed": seed, "tokens_per_joule": efficiency,
        "power_source": "modelled", "provenance": {}, **others,
    }  # fmt: skip


def test_efficiency_is_relative_to_the_same_seeds_baseline():
    rows = metric_rows(
        [summary("pals", 0, 6.0), summary("static", 0, 4.0), summary("pals", 1, 3.0),
         summary("static", 1, 2.0)]
    )  # fmt: skip
    assert [row["tokens_per_joule_relative"] for row in rows] == [1.5, 1.0, 1.5, 1.0]


def test_the_first_controller_is_the_unit_without_a_baseline():
    rows = metric_rows([summary("governor", 0, 6.0), summary("pals", 0, 3.0)])
    assert [row["tokens_per_joule_relative"] for row in rows] == [1.0, 0.5]


def test_aggregate_gives_means_intervals_and_probabilities():
    values = {"static": [1.0, 2.0, 3.0, 4.0], "pals": [2.5, 3.5, 4.5, 5.5]}
    rows = metric_rows(
        [summary(n, s, v, slo=None) for n, vs in values.items() for s, v in enumerate(vs)]
    )
    result = aggregate(rows)
    cell = result["controllers"]["pals"]["tokens_per_joule"]
    assert cell["iqm"] == pytest.approx(4.0)
    assert cell["ci_low"] < 4.0 < cell["ci_high"]
    assert cell["values"] == values["pals"]
    assert result["controllers"]["pals"]["slo"] is None
    wins = np.mean([p > s for p in values["pals"] for s in values["static"]])
    improvement = result["probability_of_improvement"]["pals"]["static"]
    assert improvement["probability"] == pytest.approx(wins)


def test_a_comparison_runs_once_and_resumes(command, tmp_path):
    out = tmp_path / "out"
    first = command(main, *QUICK, "executor.jobs=2")
    assert first.code == 0, first.err
    assert "governor" in first.out
    runs = sorted(out.glob("runs/*/*/summary.json"))
    assert len(runs) == 6
    stamps = [file.stat().st_mtime_ns for file in runs]

    result = json.loads((out / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert result["seeds"] == [0, 1, 2]
    assert set(result["controllers"]) == {"static", "governor"}
    by_seed = [json.loads(file.read_text())["energy_gpu_j"] for file in runs[:3]]
    assert result["controllers"]["governor"]["energy_gpu_j"]["values"] == by_seed
    with (out / "comparison.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["controller"], int(row["seed"])) for row in rows] == [
        (name, seed) for seed in range(3) for name in ("static", "governor")
    ]
    assert (out / "comparison.png").stat().st_size > 10_000

    runs[1].unlink()  # an interrupted run
    again = command(main, *QUICK)
    assert again.code == 0, again.err
    now = [file.stat().st_mtime_ns for file in runs]
    assert [a == b for a, b in zip(now, stamps, strict=True)] == [True, False] + [True] * 4
    remade = json.loads((out / "comparison.json").read_text())
    assert without_clock_times(remade) == without_clock_times(result)


def test_controllers_meet_the_same_arrivals(command, tmp_path):
    command(main, *QUICK, "controllers=[static,random]", "seeds=[5]")
    arrived = {
        file.parts[-3]: json.loads(file.read_text())["requests_arrived"]
        for file in tmp_path.glob("out/runs/*/*/summary.json")
    }
    assert arrived["static"] == arrived["random"] > 0


def test_other_settings_are_not_taken_for_finished(command, tmp_path):
    command(main, *QUICK, "controllers=[static]", "seeds=1")
    (file,) = tmp_path.glob("out/runs/*/*/summary.json")
    before = json.loads(file.read_text())
    command(main, *QUICK, "controllers=[static]", "seeds=1", "workload.load=0.3")
    assert json.loads(file.read_text())["output_tokens"] < 0.7 * before["output_tokens"]


def test_a_failing_run_is_told_and_the_others_are_kept(command, tmp_path):
    done = command(
        main, *QUICK, "controllers=[static,adaptive_cap]", "seeds=2",
        "profile.path=/no/profile.json",
    )  # fmt: skip
    assert done.code != 0
    assert "2 of 4 runs failed" in done.err
    assert "adaptive_cap, seed 1: profile.path: cannot read /no/profile.json" in done.err
    assert "Traceback" not in done.err
    kept = {file.parts[-3] for file in tmp_path.glob("out/runs/*/*/summary.json")}
    assert kept == {"static"}
    assert not list(tmp_path.glob("out/comparison.*"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("seeds=0", "seeds: must be"),
        ("seeds=[1,1]", "seeds: must be"),
        ("seeds=many", "seeds: must be"),
        ("controllers=[]", "controllers: must be"),
        ("controllers=[static,static]", "controllers: must be"),
        ("controllers=[statik]", "controller: no choice named 'statik'; did you mean 'static'?"),
        ("controller=pals", "controllers=[...]"),
        ("executor.jobs=0", "executor.jobs"),
    ],
)
def test_bad_configuration_is_one_message(command, argument, message):
    done = command(main, *QUICK, argument)
    assert done.code != 0
    assert message in done.err
    assert done.err.count("error:") == 1
    assert "Traceback" not in done.err


def test_no_figure_is_nan():
    rows = metric_rows([summary("static", s, 1.0 + s, x=None) for s in range(3)])
    cell = aggregate(rows)["controllers"]["static"]["tokens_per_joule"]
    assert not any(math.isnan(cell[key]) for key in ("iqm", "ci_low", "ci_high"))
