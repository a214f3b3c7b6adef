from __future__ import annotations

import re
from dataclasses import replace

import pytest

from agents.bundle import find_bundle, read_bundle
from envs.sources import code_hash
from experiments.records.provenance import configuration_hash, provenance
from experiments.runs.options import run_record


@pytest.fixture
def recorded(compose):
    def record(*overrides):
        config = compose(*overrides)
        return run_record(config.scenario, config.options("pals"))

    return record


def test_the_configuration_hash_tells_runs_apart(recorded):
    key = configuration_hash(recorded())
    assert configuration_hash(recorded("tracker=wandb", "debug=on")) == key
    for other in ("seed=1", "controller=static", "objective.qos.tolerance=0.1", "duration=61"):
        assert configuration_hash(recorded(other)) != key, other


def test_the_calibration_hash_follows_the_calibration(recorded):
    a100, again, h100 = (
        provenance(recorded(*overrides))["calibration_hash"]
        for overrides in (["gpu=a100_sxm4_80gb"], ["seed=3"], ["gpu=h100_sxm"])
    )
    assert a100 == again != h100


@pytest.mark.parametrize("agent", ["ppo", "ppo_clock"])
def test_the_shipped_agents_were_taught_on_the_installed_calibrations(agent, recorded):
    taught_on = read_bundle(find_bundle(agent)).calibrations
    assert {"a100_sxm4_80gb", "h100_sxm"} <= set(taught_on)
    for gpu, known in taught_on.items():
        assert provenance(recorded(f"gpu={gpu}"))["calibration_hash"] == known, gpu


def test_provenance_names_version_commit_and_platform(recorded):
    where = provenance(recorded())
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", where["version"])
    assert where["git_commit"] is None or re.match(r"[0-9a-f]{40}", where["git_commit"])
    assert where["platform"]["python"].startswith("3.")
    assert where["code_hash"] == code_hash()


def test_the_agent_hash_is_the_bundles(recorded, monkeypatch):
    assert provenance(recorded("controller=pals"))["agent_hash"] is None
    record = recorded("controller=ppo")
    own = provenance(record)["agent_hash"]
    assert own == read_bundle(find_bundle(record["controller"]["bundle"])).sha256
    other = read_bundle(find_bundle(record["controller"]["bundle"]))
    monkeypatch.setattr(
        "experiments.records.provenance.read_bundle",
        lambda folder: replace(other, sha256="0"),
    )
    assert provenance(record)["agent_hash"] == "0"
