"""Named choices: what is built, and what a user is told about a mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from omegaconf import OmegaConf

from envs import catalog
from envs.actions.grid import Grid
from envs.catalog import files
from envs.errors import ConfigurationError
from envs.fields import Part
from envs.objectives.objective import Objective
from envs.objectives.qos import QoSConfig
from envs.objectives.signals import Constant, Signal, Steps
from envs.rewards import Efficiency, Reward
from envs.scenario import Scenario
from envs.workloads.lengths import Fixed, Lengths


@pytest.mark.parametrize("group", ["action", "reward", "controller", "objective"])
def test_every_choice_of_a_group_can_be_built(group: str) -> None:
    choices = catalog.names(group)
    assert choices
    for name in choices:
        node = catalog.load(group, name)
        if OmegaConf.missing_keys(node) or node["_target_"].startswith("agents."):
            continue  # a choice that asks the user for a value, such as a file
        built = catalog.build(group, name)
        assert f"{type(built).__module__}.{type(built).__name__}" == node["_target_"]


def test_every_choice_begins_with_a_comment_and_a_schema() -> None:
    for group in ("action", "reward", "controller"):
        for file in (catalog.CONF_DIR / group).glob("*.yaml"):
            text = file.read_text(encoding="utf-8")
            assert text.startswith("# "), file
            assert "python -m" in text or f"{group}=" in text, file


def test_names_build_with_and_without_overrides() -> None:
    assert catalog.build("action", "grid") == Grid()
    changed = catalog.build("action", {"base": "grid", "max_num_seqs": [2, 8]})
    assert changed == Grid(max_num_seqs=[2, 8])
    assert type(changed.max_num_seqs) is list


def test_a_composed_configuration_is_checked_and_built() -> None:
    node = OmegaConf.create({"_target_": "envs.actions.grid.Grid", "sm_clock": True})
    assert catalog.build("action", node) == Grid(sm_clock=True)
    node = OmegaConf.create({"_target_": "envs.actions.grid.Grid", "sm_clok": True})
    with pytest.raises(ConfigurationError, match="sm_clok"):
        catalog.build("action", node)


def test_what_is_built_already_is_returned_as_it_is() -> None:
    grid = Grid()
    assert catalog.build("action", grid) is grid


def test_runtime_arguments_reach_the_class() -> None:
    assert catalog.build("action", "grid", sm_clock=True).sm_clock is True


def test_nested_configurations_become_their_own_classes() -> None:
    node = OmegaConf.merge(
        catalog.schema("envs/objectives/objective/Objective"),
        {"target": catalog.schema("envs/objectives/signals/Steps"), "qos": {"window_s": 4.0}},
    )
    built = catalog.build("objective", node)
    assert isinstance(built, Objective)
    assert built.qos == QoSConfig(window_s=4.0)
    assert built.target == Steps()


def test_nested_schemas_are_placed_where_the_file_says() -> None:
    reward = catalog.build("reward", "default")
    assert isinstance(reward, Reward)
    assert isinstance(reward.terms["efficiency"], Efficiency)


def test_a_file_can_build_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "action"
    folder.mkdir()
    (folder / "base.yaml").write_text(
        "defaults: [/schema/envs/actions/grid/Grid@_here_, _self_]\nsm_clock: true\n"
    )
    (folder / "own.yaml").write_text("defaults: [base, _self_]\nsm_clock_levels: 3\n")
    (folder / "first.yaml").write_text("defaults: [_self_, base]\nsm_clock: false\n")
    monkeypatch.setattr(files, "CONF_DIR", tmp_path)
    assert catalog.build("action", "own") == Grid(sm_clock=True, sm_clock_levels=3)
    assert catalog.build("action", "first").sm_clock is True
    assert catalog.names("action") == ["base", "first", "own"]


@pytest.mark.parametrize(
    ("group", "choice", "parts"),
    [
        ("action", "gird", ["action", "'gird'", "grid", "joint"]),
        ("action", {"base": "grid", "sm_clok": 1}, ["action=grid", "sm_clok"]),
        ("action", {"base": "grid", "sm_clock_levels": "many"}, ["sm_clock_levels", "many"]),
        ("action", {"base": "grid", "max_num_seqs": ["a"]}, ["max_num_seqs", "'a'"]),
        ("action", {"base": "grid", "sm_clock_levels": 1}, ["action.sm_clock_levels", "1"]),
        ("action", {"sm_clock": True}, ["action", "'base'", "grid"]),
        ("reward", {"base": "default", "terms": {"qos": {"wait": 1}}}, ["terms.qos.wait"]),
        ("reward", {"base": "default", "qos_definition": "x"}, ["reward.qos_definition", "'x'"]),
        ("controller", {"base": "pals", "feedback": {"kq": 1}}, ["controller=pals", "feedback.kq"]),
        ("controller", {"base": "pals", "feedback": {"kp": -1.0}}, ["controller.feedback.kp"]),
    ],
)
def test_mistakes_name_the_key(group: str, choice: Any, parts: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        catalog.build(group, choice)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "outside the allowed packages"),
        ("envs.nowhere.Thing", "cannot import 'envs.nowhere.Thing'"),
        ("envs.actions.grid.Thing", "cannot import 'envs.actions.grid.Thing'"),
        ("envs", "not the import path of a public class"),
    ],
)
def test_only_classes_of_allowed_packages_are_built(target: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        catalog.build("action", {"_target_": target})


def test_a_nested_target_cannot_leave_the_allowed_packages() -> None:
    node = {"base": "default", "terms": {"x": {"_target_": "os.system", "command": "true"}}}
    with pytest.raises(ConfigurationError, match="outside the allowed packages"):
        catalog.build("reward", node)


@dataclass(kw_only=True)
class Foreign(Signal):
    """Stands for a class of a user's own package."""

    signal: Annotated[Any, Part("signal")] = None
    needed: float

    def values(self, times_s: Any, rng: Any) -> Any:
        return times_s


def test_a_users_package_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(catalog.PACKAGES_VARIABLE, "")
    target = {"_target_": f"{__name__}.Foreign", "needed": 2}
    with pytest.raises(ConfigurationError, match="allow_package"):
        catalog.build("signal", target)
    catalog.allow_package(__name__.partition(".")[0])
    built = catalog.build(
        "signal",
        {**target, "signal": {"_target_": "envs.objectives.signals.Constant", "value": 3}},
    )
    assert built.signal == Constant(value=3.0)
    with pytest.raises(ConfigurationError, match=r"signal\.needed: no value given"):
        catalog.build("signal", {"_target_": f"{__name__}.Foreign"})


def test_schema_paths_finds_what_the_files_inherit() -> None:
    paths = list(catalog.schema_paths())
    assert len(paths) == len(set(paths))
    assert {"envs/actions/grid/Grid", "envs/rewards/Efficiency"} <= set(paths)
    for path in paths:
        assert catalog.schema(path)["_target_"] == path.replace("/", ".")


FIXED = "envs.workloads.lengths.Fixed"


@pytest.mark.parametrize("base", ["closed_loop", "poisson_gsm8k"])
def test_a_nested_choice_can_be_replaced(base: str) -> None:
    lengths = {"prompt": {"_target_": FIXED, "tokens": 128}, "output": 32}
    built = catalog.build("workload", {"base": base, "lengths": lengths})
    assert built.lengths == Lengths(prompt=Fixed(tokens=128), output=Fixed(tokens=32))
    assert (built.mean_prompt_tokens, built.mean_output_tokens) == (128.0, 32.0)


def test_a_nested_choice_of_the_same_class_is_changed() -> None:
    prompt = {"_target_": "envs.workloads.lengths.LogNormal", "mean_tokens": 61.0}
    built = catalog.build("workload", {"base": "closed_loop", "lengths": {"prompt": prompt}})
    assert built.lengths.prompt.mean_tokens == 61.0
    assert built.lengths.prompt.shared_tokens == 432


def test_a_number_replaces_a_signal() -> None:
    built = catalog.build("objective", {"base": "budget_steps", "target": 0.8, "power_budget": 1})
    assert (built.target, built.power_budget) == (Constant(value=0.8), Constant(value=1.0))
    assert catalog.build("objective", {"base": "moving_target", "target": None}).target is None
    band = catalog.build("budget", {"base": "carbon", "signal": {"signal": 300}})
    assert band.signal.signal == Constant(value=300.0)
    assert catalog.build("budget", {"base": "steps", "signal": 4000}).signal.value == 4000.0


def test_a_replaced_choice_is_checked_with_its_full_key() -> None:
    wrong = {"_target_": FIXED, "tokns": 1}
    with pytest.raises(ConfigurationError, match=r"workload\.lengths\.prompt.*tokns"):
        catalog.build("workload", {"base": "closed_loop", "lengths": {"prompt": wrong}})


@pytest.mark.parametrize("value", ["${x}", "${oc.env:NO_SUCH_VARIABLE}", "${nothing:1}"])
def test_an_interpolation_that_leads_nowhere_is_named(value: str) -> None:
    for objective, key in (
        ({"base": "target_file", "target": value}, "objective.target"),
        ({"base": "moving_target", "price_per_kwh": [[[value]]]}, "objective.price_per_kwh[0][0]"),
        ({"base": "latency_slo", "qos": {"warmup_s": value}}, "objective.qos.warmup_s"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            catalog.build("objective", objective)
        assert str(caught.value).startswith(key)
        with pytest.raises(ConfigurationError) as caught:
            Scenario(objective=objective).content()
        assert str(caught.value).startswith(key)


@pytest.mark.parametrize("choice", [5, 1.5, True, [1], b"x"])
def test_a_plain_value_is_no_choice(choice: object) -> None:
    with pytest.raises(ConfigurationError, match="suite: must be a name"):
        catalog.build("suite", choice)


def test_a_group_without_choices_takes_a_class() -> None:
    said = r"^constraints\.more: no choice named 'nonsense' \(it takes a mapping with a _target_\)"
    with pytest.raises(ConfigurationError, match=said):
        catalog.load("constraints.more", "nonsense")
