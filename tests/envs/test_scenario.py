"""A scenario is one value: it is copied, pickled, written down and hashed by what it describes."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
from omegaconf import OmegaConf

from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import build_server_spec, make_env
from envs.scenario import PARTS, Scenario, described
from envs.simulator.config import SimulatedServerConfig
from envs.workloads.poisson import Poisson


def test_the_content_is_the_same_however_it_is_written_down() -> None:
    named = Scenario(workload="poisson_gsm8k")
    composed = Scenario(workload=catalog.load("workload", "poisson_gsm8k"))
    changed = Scenario(workload={"base": "poisson_gsm8k"})
    for other in (composed, changed):
        assert other.content() == named.content()
        assert hash(other) == hash(named)
    assert set(named.content()) == PARTS
    json.dumps(named.content(), allow_nan=False)


def test_a_built_object_has_the_content_of_its_configuration() -> None:
    built = Scenario(server=SimulatedServerConfig(tensor_parallel=2))
    named = Scenario(server={"base": "simulated", "tensor_parallel": 2, "num_gpus": 2})
    assert built.content()["server"] == named.content()["server"]
    assert Scenario(workload=Poisson(rate=3.0)).content()["workload"]["rate"] == 3.0


def test_any_change_changes_the_hash() -> None:
    scenario = Scenario()
    changes = [
        {"duration_s": 30.0},
        {"model": "gpt2"},
        {"workload": {"base": "poisson_gsm8k", "load": 0.71}},
        {"domain_randomization": True},
    ]
    hashes = {hash(scenario), *(hash(replace(scenario, **change)) for change in changes)}
    assert len(hashes) == 1 + len(changes)


def test_it_cannot_be_changed_by_its_maker() -> None:
    lengths = {"base": "poisson_gsm8k", "load": 0.5}
    scenario = Scenario(workload=lengths)
    lengths["load"] = 0.9
    assert scenario.content()["workload"]["load"] == 0.5
    with pytest.raises(FrozenInstanceError):
        scenario.model = "gpt2"  # type: ignore[misc]


def test_it_travels_between_processes() -> None:
    node = OmegaConf.create({"base": "poisson_gsm8k", "load": "${oc.decode:'0.4'}"})
    scenario = Scenario(model="gpt2", workload=node, server={"base": "simulated"})
    there = pickle.loads(pickle.dumps(scenario))
    assert there == scenario
    assert hash(there) == hash(scenario)
    assert there.content()["workload"]["load"] == 0.4


def test_a_remote_or_live_server_is_not_simulated() -> None:
    assert Scenario().is_simulated
    assert not Scenario(server="vllm").is_simulated
    assert not Scenario(server="ray").is_simulated


def test_wrong_parts_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no such part.*did you mean 'model'\?"):
        Scenario.of(modell="gpt2")
    with pytest.raises(ConfigurationError, match="gpu: a simulated server needs one"):
        make_env(Scenario(gpu=None))
    with pytest.raises(ConfigurationError, match="not simulated; choose server=simulated"):
        build_server_spec(Scenario(server="vllm"))

    class Mine:
        """No dataclass."""

    with pytest.raises(ConfigurationError, match="figure: an object of Mine"):
        described("figure", Mine())
