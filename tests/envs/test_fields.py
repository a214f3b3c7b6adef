"""Ranges of configuration values: each number has one, and what is outside is named in full."""

from __future__ import annotations

import importlib
import math
import pickle
import pkgutil
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import numpy as np
import pytest
from omegaconf import OmegaConf

from envs import catalog
from envs.errors import ActionError, ConfigurationError
from envs.factory import make_simulated
from envs.fields import Checked, FieldError, OneOf, Range, field_rules
from envs.objectives.signals import Constant, Steps
from envs.simulator.models import ModelSpec
from envs.workloads.poisson import Poisson


@dataclass(kw_only=True)
class Thing(Checked):
    """A class of a test."""

    many: Annotated[int, Range(least=1, most=9)] = 1
    some: Annotated[float | None, Range(above=0.0, below=1.0)] = None
    rows: list[Annotated[float, Range(least=0.0)]] | None = None
    named: dict[str, Annotated[float, Range(most=1.0, infinite=True)]] | None = None
    word: Annotated[str, OneOf("a", "b")] = "a"
    free: float = 0.0
    switch: bool = False


@dataclass(kw_only=True)
class Derived(Thing):
    """Changes a default, not the range."""

    many: int = 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"many": 0}, "Thing.many: must be >= 1 and <= 9, got 0"),
        ({"many": 10}, "Thing.many: must be >= 1 and <= 9, got 10"),
        ({"many": 2.0}, "Thing.many: must be a whole number, got 2.0"),
        ({"many": True}, "Thing.many: must be a whole number, got True"),
        ({"many": None}, "Thing.many: must be a whole number, got None"),
        ({"some": 1.0}, "Thing.some: must be > 0 and < 1, got 1.0"),
        ({"some": math.nan}, "Thing.some: must be > 0 and < 1, got nan"),
        ({"some": "x"}, "Thing.some: must be a number, got 'x'"),
        ({"rows": [0.0, -1.0]}, "Thing.rows[1]: must be >= 0, got -1.0"),
        ({"rows": [math.inf]}, "Thing.rows[0]: must be >= 0, got inf"),
        ({"rows": [[]]}, "Thing.rows[0]: must be a number, got []"),
        ({"rows": [[1.0]]}, "Thing.rows[0]: must be a number, got [1.0]"),
        ({"rows": [{}]}, "Thing.rows[0]: must be a number, got {}"),
        ({"many": []}, "Thing.many: must be a whole number, got []"),
        ({"named": {"x": {"y": 0.0}}}, "Thing.named.x: must be a number, got {'y': 0.0}"),
        ({"named": {"x": 2.0}}, "Thing.named.x: must be <= 1, got 2.0"),
        ({"named": {"x": -math.inf}}, "Thing.named.x: must be <= 1, got -inf"),
        ({"word": "c"}, "Thing.word: must be one of a, b, got 'c'"),
        ({"free": math.nan}, "Thing.free: must be a finite number, got nan"),
    ],
)
def test_what_makes_no_sense_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Thing(**values)
    assert str(caught.value) == message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_what_makes_sense_is_taken() -> None:
    Thing(many=np.int64(9), some=np.float32(0.5), rows=[0], named={"x": math.inf}, word="b")
    with pytest.raises(FieldError, match=r"Derived\.many: must be >= 1 and <= 9"):
        Derived(many=10)


def configuration_classes() -> list[type[Any]]:
    """Every class that a file of ``conf`` inherits, and those of their fields."""
    pending = [catalog.schema(path)["_target_"] for path in catalog.schema_paths()]
    for package in ("baselines", "agents", "envs.workloads", "envs.objectives"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            importlib.import_module(f"{package}.{module.name}")
    found = [getattr(importlib.import_module(t.rpartition(".")[0]), t.rpartition(".")[2])
             for t in pending]  # fmt: skip
    for cls in found:
        hints = get_type_hints(cls)
        for hint in [hints[item.name] for item in fields(cls)]:
            for part in (hint, *getattr(hint, "__args__", ())):
                if isinstance(part, type) and is_dataclass(part) and part not in found:
                    found.append(part)
    return found


@pytest.mark.parametrize("cls", configuration_classes(), ids=lambda cls: cls.__name__)
def test_every_number_has_a_range(cls: type[Any]) -> None:
    for name, rules in field_rules(cls).items():
        assert rules.number in (None, bool) or rules.ranges, (
            f"{cls.__module__}.{cls.__name__}.{name}"
        )
    if not cls.__module__.startswith("experiments.") and field_rules(cls):
        assert issubclass(cls, Checked) or not fields(cls)


@pytest.mark.parametrize(
    ("group", "changes", "key"),
    [
        ("workload", {"base": "bursty", "output_scale": 1e18}, "workload.output_scale"),
        ("workload", {"base": "bursty", "rate": 5e-324}, "workload.rate"),
        ("workload", {"base": "bursty", "burst_duration_s": 1e-9}, "workload.burst_duration_s"),
        ("workload", {"base": "bursty", "load": math.nan}, "workload.load"),
        (
            "workload",
            {"base": "bursty", "lengths": {"output": {"shared_tokens": 2**63 - 1}}},
            "workload.lengths.output.shared_tokens",
        ),
        ("model", {"base": "mixtral_8x7b", "mlp_matrices": -100}, "model.mlp_matrices"),
        ("model", {"base": "mixtral_8x7b", "layers": -1}, "model.layers"),
        ("model", {"base": "mixtral_8x7b", "latent_v_dim": -1}, "model.latent_v_dim"),
        ("server", {"base": "simulated", "max_num_seqs": 2**32}, "server.max_num_seqs"),
        ("server", {"base": "simulated", "system_alpha": math.nan}, "server.system_alpha"),
        ("server", {"base": "simulated", "block_size": 0}, "server.block_size"),
        ("gpu", {"base": "h100_sxm", "memory_gb": math.inf}, "gpu.memory_gb"),
        ("gpu", {"base": "h100_sxm", "power_caps_w": [math.nan]}, "gpu.power_caps_w[0]"),
        ("calibration", {"base": "h100_sxm", "overlap": 1.5}, "calibration.overlap"),
        ("calibration", {"base": "h100_sxm", "step_s": -1.0}, "calibration.step_s"),
        (
            "objective",
            {"base": "budget_steps", "power_budget": {"levels": [math.nan]}},
            "objective.power_budget.levels[0]",
        ),
        ("objective", {"base": "efficiency", "target": -1}, "objective.target"),
        (
            "objective",
            {"base": "throughput_target", "target": {"value": -1}},
            "objective.target",
        ),
        ("objective", {"base": "efficiency", "qos": {"window_s": 0.0}}, "objective.qos.window_s"),
        (
            "reward",
            {"base": "default", "terms": {"qos": {"weight": math.nan}}},
            "reward.terms.qos.weight",
        ),
        ("controller", {"base": "pals", "feedback": {"kp": math.inf}}, "controller.feedback.kp"),
        ("controller", {"base": "pals", "forest": {"trees": 0}}, "controller.forest.trees"),
        ("action", {"base": "grid", "max_num_seqs": [2**40]}, "action.max_num_seqs[0]"),
        ("budget", {"base": "constant", "signal": {"value": -5.0}}, "budget.signal"),
        ("agent", {"base": "ppo", "servers": 10**9}, "agent.servers"),
        ("executor", {"base": "joblib", "jobs": 10**9}, "executor.jobs"),
    ],
)
def test_nonsense_is_refused_with_the_full_key(
    group: str, changes: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        catalog.build(group, changes)
    assert str(caught.value).startswith(f"{key}: must be")
    assert "got" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Poisson(load=-1.0), "workload.load"),
        (lambda: Constant(value=math.nan), "signal.value"),
        (lambda: Steps(levels=[]), "signal.levels"),
        (lambda: ModelSpec(layers=0, mlp_intermediate=8), "model.layers"),
        (lambda: make_simulated(interval_s=1e-6), "interval_s"),
        (lambda: make_simulated(duration_s=1e9), "duration_s"),
        (
            lambda: make_simulated(server={"base": "simulated", "tensor_parallel": 3}),
            "server.tensor_parallel: must divide model.heads",
        ),
    ],
)
def test_plain_python_is_checked_too(make: Any, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert str(caught.value).startswith(key)


def test_schemas_are_as_without_ranges() -> None:
    node = OmegaConf.structured(Thing)
    assert node == {"many": 1, "some": None, "rows": None, "named": None, "word": "a",
                    "free": 0.0, "switch": False}  # fmt: skip
    with pytest.raises(Exception, match="many"):
        node.many = "x"


NAN = math.nan


@pytest.mark.parametrize(
    ("encoding", "action"),
    [
        ("grid", [-1, 0]), ("grid", [0, 6]), ("grid", [NAN, 0]), ("grid", [0.5, 0]),
        ("joint", -1), ("joint", 36), ("joint", NAN), ("delta", [-1, 1]), ("delta", [3, 1]),
        ("delta", [NAN, 1]), ("continuous", [NAN, 0.0]), ("continuous", [0.0, NAN]),
    ],
)  # fmt: skip
def test_an_action_outside_its_space_is_refused(encoding: str, action: Any) -> None:
    env = make_simulated(action=encoding, duration_s=30.0)
    env.reset(seed=0)
    with pytest.raises(ActionError, match="action: must be"):
        env.step(np.asarray(action))
    assert env.step(env.action_space.sample())[4]["telemetry"].power_cap_w > 0
