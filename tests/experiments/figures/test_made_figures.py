"""Figures made by the command itself, from real runs at a tiny scale."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from envs import catalog
from envs.sources import code_hash
from experiments.figures.__main__ import main
from experiments.figures.claims import VERDICTS
from experiments.figures.context import available_agents
from experiments.figures.export import RECORD
from experiments.reporting.html import write_report

OLMOE = "figure.models=[olmoe_1b_7b]"
STEADY = ("figure.steady.seeds=2", "figure.steady.settle_s=2", "figure.steady.measure_s=5")
TINY = {
    "table2": (),
    "fig01": (*STEADY, "figure.models=[mixtral_8x7b,olmoe_1b_7b]",
              "figure.other_lengths=[scoring]", "figure.batches=[1,32,64]"),
    "fig02": ("figure.draws=100",),
    "fig03": (*STEADY, OLMOE, "figure.batches=[16,64]", "figure.caps_w=[200,300,400]",
              "figure.other_lengths=[]"),
    "fig04": (*STEADY, "figure.other_lengths=[]", "figure.models=[qwen15_moe_a27b]"),
    "fig05": (*STEADY, "figure.other_lengths=[]",
              "figure.models=[mixtral_8x7b,qwen15_moe_a27b]"),
    "fig08": (*STEADY, OLMOE, "figure.batches=[64]"),
    "beyond_caps": (*STEADY, OLMOE),
    "beyond_clock_lock": ("figure.seeds=2", "figure.duration_s=60", "figure.loads=[0.3,0.7]",
                          "figure.caps_w=[200,400]", "figure.clocks_mhz=[1095]"),
    "fig11": ("figure.seeds=2", "figure.duration_s=130", "figure.agents=[]",
              "figure.overrides=['model=olmoe_1b_7b','workload=closed_loop',"
              "'objective=moving_target','profile.settle_s=5','profile.measure_s=10',"
              "'profile.tensor_parallel=[]']"),
}  # fmt: skip


@pytest.fixture
def make(command, tmp_path):
    def made(*arguments: str) -> tuple[list[dict], Path]:
        done = command(main, "executor.jobs=1", *arguments)
        assert done.code == 0, done.err
        out = tmp_path / "out"
        return json.loads((out / "claims.json").read_text()), out

    return made


@pytest.mark.parametrize("name", TINY)
def test_a_figure_writes_data_plot_and_claims(make, name):
    claims, out = make(f"figure={name}", *TINY[name])
    data = pd.read_csv(out / f"{name}.csv")
    assert len(data) > 0
    noted = json.loads((out / "hashes.json").read_text())
    assert set(noted) == {f"{name}.csv", "claims.json", "sensitivity.csv"}
    if name.startswith("table"):
        assert not (out / f"{name}.png").exists()
    else:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert bool(claims) != name.startswith("beyond")
    for claim in claims:
        assert set(claim) == set(RECORD)
        assert claim["verdict"] in VERDICTS
        assert claim["figure"] == name
        if claim["low"] is not None:
            assert claim["low"] <= claim["ours"] <= claim["high"]


def test_figure_1_says_what_its_data_say(make):
    claims, out = make("figure=fig01", *TINY["fig01"])
    data = pd.read_csv(out / "fig01.csv")
    own = data[(data["panel"] == "b") & (data["tokens"] == "total") & (data["energy"] == "gpu")]
    expected = own[own["batch"] == 64]["relative_to_first"].mean()
    (claim,) = (c for c in claims if c["id"] == "fig01.batch_gain")
    assert claim["ours"] == pytest.approx(expected, rel=1e-4)
    cases = pd.read_csv(out / "sensitivity.csv")
    assert {"fig01.batch_gain", "fig01.peak_mixtral_8x7b"} <= set(cases["claim"])


TINY_STRATEGIES = ("figure=fig07", OLMOE, "figure.seeds=2", "figure.duration_s=60",
                   "figure.try_variants=[]")  # fmt: skip


def test_strategies_are_normalised_to_baseline_and_resumed(make):
    tiny = (*TINY_STRATEGIES, "figure.controllers=[static,governor,oracle]",
            "figure.evaluate_claims=false")  # fmt: skip
    _, out = make(*tiny)
    data = pd.read_csv(out / "fig07.csv").set_index("controller")
    assert data.loc["static", "relative_gpu"] == 1.0
    assert data.loc["oracle", "relative_gpu"] >= 1.0
    kept = {file: file.stat().st_mtime_ns for file in out.rglob("runs/**/*.json")}
    assert len(kept) == 3
    make(*tiny)
    assert kept == {file: file.stat().st_mtime_ns for file in kept}, "run again"


@pytest.mark.long
def test_figure_7_evaluates_its_claims(make):
    claims, _ = make(
        *TINY_STRATEGIES, "figure.controllers=[static,adaptive_batch,pals,oracle]"
    )  # fmt: skip
    assert {c["id"] for c in claims} == {
        "fig07.adaptive_batch", "fig07.pals", "fig07.oracle_headroom",
    }  # fmt: skip


@pytest.mark.long
def test_figure_9_and_its_latency_view_share_their_runs(make):
    tiny = ("figure.controllers=[static,pals]", "figure.agents=[]", "figure.seeds=2",
            "figure.variant_seeds=1", "figure.duration_s=60",
            "figure.try_variants=[always full]",
            )  # fmt: skip
    claims, out = make("figure=fig09", *tiny)
    assert {c["id"] for c in claims} == {
        "fig09.violations_static", "fig09.violations_pals", "fig09.factor", "fig09.efficiency",
    }  # fmt: skip
    kept = {file: file.stat().st_mtime_ns for file in out.rglob("summary.json")}
    assert len(kept) == 6
    make("figure=beyond_latency", *tiny)
    assert kept == {file: file.stat().st_mtime_ns for file in kept}, "run again"
    assert (out / "beyond_latency.png").is_file()


@pytest.mark.long
def test_figure_10_compares_at_the_same_power_targets(make):
    claims, out = make(
        "figure=fig10", "figure.controllers=[static_dynamic_cap,pals]", "figure.agents=[]",
        "figure.seeds=2", "figure.duration_s=120", "figure.try_variants=[]", "figure.bins=2",
    )  # fmt: skip
    data = pd.read_csv(out / "fig10.csv")
    base = data[data["controller"] == "static_dynamic_cap"]
    assert (base["throughput_gain"] == 0.0).all()
    assert claims[0]["id"] == "fig10.throughput"


def test_table_1_fits_the_offline_model(make):
    claims, out = make("figure=table1", OLMOE, "figure.forest.trees=10")
    ids = {c["id"]: c for c in claims}
    assert 0 < ids["table1.mape_power"]["ours"] < ids["table1.mape_throughput"]["ours"] < 1
    assert len(pd.read_csv(out / "table1.csv")) >= 8


def test_several_figures_are_made_by_one_command_and_fill_the_page(make, tmp_path):
    page = tmp_path / "docs" / "page.md"
    claims, out = make("figure=all", "figure.figures=[table2,fig02]", f"page={page}")
    assert {"table2.csv", "fig02.csv", "fig02.pdf"} <= {file.name for file in out.iterdir()}
    text = page.read_text()
    plots = re.findall(r"!\[.*\]\((.*)\)", text)
    assert plots == ["images/reproduction/fig02.png"]
    assert (page.parent / plots[0]).is_file()
    for claim in claims:
        assert claim["claim"] in text
        assert claim["verdict"] in text
    assert "| Mixtral-8x7B | 46.7 |" in text
    report = write_report(out).read_text()
    assert report.count("data:image/png;base64,") == 1
    assert claims[0]["claim"] in report
    assert code_hash() in report
    assert code_hash() in text


def test_all_has_every_figure():
    listed = catalog.build("figure", "all").figures
    assert sorted([*listed, "all"]) == catalog.names("figure")
    wanted = {f"fig{n:02}" for n in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11)} | {"table1", "table2"}
    assert wanted <= set(listed)


def test_a_missing_agent_is_named():
    there, missing = available_agents(["no_such_agent"])
    assert there == []
    assert "`no_such_agent`" in missing[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("figure=fig99",), "fig99"),
        (("figure=fig04", "figure.layout=heap"), "figure.layout"),
        (("figure=fig09", "figure.view=sideways"), "figure.view"),
        (("figure=fig07", "figure.try_variants=[half]"), "figure.try_variants"),
        (("figure=fig02", "figure.draws=1"), "figure.draws"),
        (("figure=fig01", "figure.bach=3"), "bach"),
    ],
)
def test_errors_name_the_key(command, arguments, text):
    done = command(main, *arguments)
    assert done.code == 1
    assert text in done.err
