"""Objects of a wrong class, given from Python: refused where they are given, by their argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from baselines.static import Static
from envs import catalog
from envs.arguments import expect
from envs.cluster.cluster import Cluster
from envs.cluster.env import ClusterEnv
from envs.cluster.factory import as_budget, build_cluster, described_cluster, make_cluster
from envs.cluster.node import Node
from envs.errors import ConfigurationError
from envs.factory import build_server_spec, make_simulated, make_simulated_vector
from envs.fields import check_values
from envs.objectives.objective import Objective
from envs.rewards import Efficiency, Reward
from envs.scenario import CHOICES, Scenario
from envs.serving import ServingEnv
from envs.simulator.vector import VectorServer, VectorServingEnv
from envs.wrappers import FlatCost, StackKnobs, UnitObservation
from experiments.runs.evaluate import evaluate
from experiments.runs.options import RunOptions


@dataclass
class Other:
    """An object of a class that stands for no part of anything."""

    weight: float = 1.0


WRONG: tuple[Any, ...] = (object(), Other(), np.zeros(3), 1j, {1}, Objective, len, b"x", 3, True)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("group", CHOICES)
def test_a_scenario_refuses_a_wrong_object_by_its_part(group: str, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{group}: must be a name"):
        Scenario(**{group: wrong})


@pytest.mark.parametrize("group", CHOICES)
def test_the_message_names_the_base_class_and_what_was_given(group: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_simulated(**{group: Other()})
    assert str(caught.value).endswith(f"got an object of {__name__}.Other")
    assert any(base in str(caught.value) for base in catalog.kinds.BASES[group])


def test_an_object_of_another_part_is_wrong_too() -> None:
    gpu = catalog.build("gpu", "a100_sxm4_80gb")
    assert make_simulated(gpu=gpu).system.num_gpus
    with pytest.raises(ConfigurationError, match=r"^model: .* got an object of .*GPUSpec"):
        make_simulated(model=gpu)


@pytest.mark.parametrize("group", ["workload", "objective", "action", "reward", "server"])
def test_what_a_scenario_cannot_go_without_is_named(group: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{group}: nothing is chosen"):
        Scenario(**{group: None})


@pytest.mark.parametrize("wrong", [1, 0, "no", None, np.nan, object()], ids=repr)
def test_a_yes_or_no_is_true_or_false(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^domain_randomization: must be true or false"):
        Scenario(domain_randomization=wrong)


def test_a_word_is_looked_for_among_words_only() -> None:
    with pytest.raises(ConfigurationError, match=r"power_scope: must be one of gpu, system"):
        check_values(Objective, {"power_scope": np.array(["gpu", "gpu"])}, "objective")


@pytest.mark.parametrize("wrong", [object(), Other(), len, [Other()]], ids=repr)
def test_a_vector_refuses_a_wrong_object(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^workload: must be a name"):
        make_simulated_vector(2, workload=wrong)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("max_episode_steps", None),
        ("max_episode_steps", 0),
        ("max_episode_steps", np.nan),
        ("max_episode_steps", [3]),
        ("autoreset_mode", None),
        ("autoreset_mode", object()),
        ("autoreset_mode", ["disabled"]),
        ("latency", "yes"),
    ],
)
def test_a_vector_refuses_what_is_no_such_argument(key: str, wrong: Any) -> None:
    given = {"record_latency" if key == "latency" else key: wrong}
    with pytest.raises(ConfigurationError, match=rf"^{key}: must be"):
        make_simulated_vector(2, **given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"nodes": None}, "env.nodes: must be a list of mappings"),
        ({"nodes": object()}, "env.nodes: must be a list of mappings"),
        ({"nodes": {"a": {}}}, "env.nodes: must be a list of mappings"),
        ({"nodes": [None]}, "env.nodes[0]: must be"),
        ({"nodes": ["a"]}, "env.nodes[0]: must be"),
        ({"nodes": [{"model": object()}]}, "env.nodes.*.model: must be a name in conf/model"),
        ({"nodes": [{"workload": True}]}, "env.nodes.*.workload: must be a name"),
        ({"nodes": [{"objective": [1]}]}, "env.nodes.*.objective: must be a name"),
        ({"nodes": [{"model": ""}]}, "model: "),
        ({"workload": None}, "workload: nothing is chosen"),
        ({"budget": True}, "budget: must be a name"),
        ({"budget": Other()}, "budget: must be a name"),
        ({"allocator": Other()}, "allocator: must be a name"),
        ({"allocator": ""}, "allocator: "),
        ({"concurrent": "yes"}, "env.concurrent: must be true or false"),
    ],
    ids=str,
)
def test_a_cluster_refuses_a_wrong_object(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_cluster(**given)
    assert str(caught.value).startswith(told)


def test_watts_of_any_number_are_a_budget() -> None:
    assert as_budget(np.int64(3000)) == as_budget(3000.0)


def _single(**changed: Any) -> ServingEnv:
    env = make_simulated()
    parts = {
        "system": env.system, "objective": env.objective, "encoding": env.encoding,
        "reward": env.reward, "power_caps_w": [300.0, 400.0], **changed,
    }  # fmt: skip
    return ServingEnv(**parts)


def _vector(**changed: Any) -> VectorServingEnv:
    env = make_simulated()
    parts = {"servers": [VectorServer.like(env)], "reward": env.reward, **changed}
    return VectorServingEnv(**parts)


def _server(**changed: Any) -> VectorServer:
    return replace(VectorServer.like(make_simulated()), **changed)


def _cluster(**changed: Any) -> Cluster:
    cluster, scenario = described_cluster(nodes=[{"name": "a"}], duration_s=10.0)
    built = build_cluster(cluster, scenario)
    parts = {
        "nodes": built.nodes, "budget": cluster.budget, "allocator": built.allocator,
        "intervals": 20, **changed,
    }  # fmt: skip
    return Cluster(**parts)


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        *((_single, name) for name in ("system", "objective", "encoding", "reward", "reference")),
        *((_single, name) for name in ("interval_s", "horizon_s")),
        *((_vector, name) for name in ("servers", "reward", "max_episode_steps", "randomize")),
        *((_server, name) for name in ("server_spec", "objective", "encoding")),
        *((_cluster, name) for name in ("nodes", "budget", "allocator", "intervals")),
    ],
)
def test_a_constructor_names_the_argument(build: Callable[..., Any], argument: str) -> None:
    build()
    with pytest.raises(ConfigurationError, match=rf"^{argument}: must be .* got an object of .*Ot"):
        build(**{argument: Other()})


@pytest.mark.parametrize("make", [ClusterEnv, FlatCost, StackKnobs, UnitObservation,
                                  VectorServer.like, lambda env: Node("a", env)])  # fmt: skip
def test_what_is_put_around_must_be_an_environment(make: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"(env|cluster): must be an object of"):
        make(Other())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"controller": Other()}, "controller: "),
        ({"controller": None}, "controller: nothing is chosen"),
        ({"scenario": Other()}, "scenario: must be an object of envs.scenario.Scenario"),
        ({"on_progress": Other()}, "on_progress: must be a function"),
        ({"profile": Other()}, "profile: "),
        ({"seeds": Other()}, "seeds: "),
    ],
    ids=str,
)
def test_evaluate_names_the_argument(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        evaluate(**{"controller": Static(), "scenario": Scenario(duration_s=2.0), **given})
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("kind", ["tracker", "controller", "budget", "executor"])
def test_every_group_knows_its_base_class(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{kind}: must be .* got an object of .*Other"):
        catalog.build(kind, Other())


def test_a_run_refuses_a_controller_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match=r"^controller: must be"):
        RunOptions(controller=Other()).new_controller()  # type: ignore[arg-type]


def test_what_is_of_the_class_is_taken() -> None:
    expect("reward", Reward(terms={"efficiency": Efficiency()}), Reward)
    expect("reference", None, Reward, optional=True)
    assert build_server_spec(Scenario(objective=Objective())).num_gpus
