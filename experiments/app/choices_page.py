"""The reference of all choices and keys, in Markdown; the documentation's site shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from envs import catalog
from envs.catalog.targets import configuration_class
from envs.fields import Rules, field_rules
from experiments.app.choices_help import first_comment
from experiments.reporting.docstrings import attributes_of, summary_line
from experiments.reporting.markdown import markdown_table

_LONGEST = 60


def choices_page() -> str:
    """Returns every group with its choices, and the keys of the classes that they configure."""
    return "\n\n".join(part for group in catalog.groups() for part in _group(group))


def _group(group: str) -> Iterator[str]:
    yield f"## {group}"
    files = {name: catalog.CONF_DIR / group / f"{name}.yaml" for name in catalog.names(group)}
    rows = [[f"`{name}`", first_comment(file).replace("|", "\\|")] for name, file in files.items()]
    yield markdown_table([f"`{group}=`", "what it is"], rows)
    if group == "experiment":
        return
    for target in dict.fromkeys(target for file in files.values() for target in _targets(file)):
        cls = configuration_class(target)
        keys = list(_keys(cls))
        if keys:
            yield f"### {cls.__name__}\n\n{summary_line(cls)}"
            yield markdown_table(["key", "default", "allowed", "meaning"], keys)


def _targets(file: Path) -> list[str]:
    """Returns the classes whose schema a file inherits as its own."""
    node = OmegaConf.load(file)
    entries = node.get("defaults", []) if isinstance(node, DictConfig) else []
    paths = [
        entry.removeprefix(catalog.SCHEMA_PREFIX).removesuffix("@_here_").replace("/", ".")
        for entry in entries
        if isinstance(entry, str) and entry.startswith(catalog.SCHEMA_PREFIX)
    ]
    return [path for path in paths if "@" not in path]


def _keys(cls: type[Any]) -> Iterator[list[str]]:
    meanings = attributes_of(cls)
    rules = field_rules(cls)  # type: ignore[arg-type]  # a class can be hashed
    for item in fields(cls):
        if not item.init:
            continue
        default: Any = item.default
        factory: Any = item.default_factory
        if default is MISSING and factory is not MISSING:
            default = factory()
        shown = "needed" if default is MISSING else f"`{_short(default)}`"
        allowed = _allowed(rules[item.name]) if item.name in rules else ""
        yield [f"`{item.name}`", shown, allowed, meanings.get(item.name, "")]


def _short(value: Any) -> str:
    text = "null" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _allowed(rules: Rules) -> str:
    if rules.options is not None:
        return ", ".join(f"`{option}`" for option in rules.options)
    text = " and ".join(str(each) for each in rules.ranges)
    return text.replace("<", "&lt;").replace(">", "&gt;")
