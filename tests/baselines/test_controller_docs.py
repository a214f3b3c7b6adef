"""docs/controllers.md says what is true: every key, every default, and the example runs."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from envs import catalog
from envs.context import ControlContext

TEXT = (Path(__file__).parents[2] / "docs" / "controllers.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## )", TEXT, flags=re.MULTILINE | re.DOTALL))
DOCUMENTED = {
    name: dict(re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", body, flags=re.MULTILINE))
    for name, body in SECTIONS.items()
}


def keys(built: Any, prefix: str = "") -> dict[str, Any]:
    """The configuration keys of a controller with their values, nested ones with dots."""
    found: dict[str, Any] = {}
    for item in fields(built):
        value = getattr(built, item.name)
        if is_dataclass(value):
            found |= keys(value, f"{prefix}{item.name}.")
        else:
            found[prefix + item.name] = value
    return found


def test_every_controller_here_has_a_section() -> None:
    own = {
        name
        for name in catalog.names("controller")
        if catalog.load("controller", name)["_target_"].startswith("baselines.")
    }
    assert own == set(SECTIONS)
    for name in own:
        assert f"[`{name}`](#{name})" in TEXT


@pytest.mark.parametrize("name", SECTIONS)
def test_keys_and_defaults_are_those_of_the_code(name: str) -> None:
    actual = keys(catalog.build("controller", name))
    inherited = DOCUMENTED["pals"] if "pals" in SECTIONS[name] and name != "pals" else {}
    written = {**inherited, **DOCUMENTED[name]}
    if name == "pals_symmetric":
        written["feedback.one_sided"] = "false"
    assert set(written) == set(actual)
    for key, value in written.items():
        assert OmegaConf.create(f"x: {value}").x == actual[key], key


def test_the_example_is_a_controller(
    make_context: Callable[..., ControlContext],
    observe: Any,
    knobs_of: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = re.search(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    yaml = re.search(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    assert code
    assert yaml
    module = types.ModuleType("baselines.bang_bang")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code[1], "docs/controllers.md", "exec"), module.__dict__)
    folder = tmp_path / "controller"
    folder.mkdir()
    (folder / "bang_bang.yaml").write_text(yaml[1], encoding="utf-8")
    context = make_context()
    monkeypatch.setattr("envs.catalog.files.CONF_DIR", tmp_path)
    controller = catalog.build("controller", {"base": "bang_bang", "waiting": 3})
    controller.bind(context)
    for waiting, budget, cap in ((0, 1e9, 150.0), (5, 1e9, 400.0), (5, 1000.0, 250.0)):
        action, _ = controller.predict(observe(waiting=waiting, power_budget_w=budget))
        assert knobs_of(context, action).power_cap_w == cap
