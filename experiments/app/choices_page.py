"""The reference of choices, commands and keys, in Markdown; the documentation's site shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from envs import catalog
from envs.catalog.targets import configuration_class
from envs.fields import Rules, field_rules
from experiments.app.choices_help import first_comment
from experiments.app.command_list import commands
from experiments.reporting.docstrings import attributes_of, summary_line
from experiments.reporting.markdown import markdown_table

_LONGEST = 60
_PLACED = re.compile(rf"{catalog.SCHEMA_PREFIX}(\S+)@([\w.]+)")
_OWN = "_global_"


def choices_page() -> str:
    """Returns every group with its choices, and the keys of the classes that they configure."""
    return "\n\n".join(part for group in catalog.groups() for part in _group(group))


def commands_page() -> str:
    """Returns every command that Hydra configures, with the keys that are its own."""
    return "\n\n".join(
        f"### {name}\n\n{summary}.\n\n{_command(file)}"
        for name, summary in commands().items()
        if (file := catalog.CONF_DIR / f"{name}.yaml").is_file()
    )


def _command(file: Path) -> str:
    """Returns the keys of a command, as its file sets them; groups are told where they stand."""
    schemas, choices, values = _content(file)
    rows: list[list[str]] = []
    parts = {place.partition(".")[0] for _, place in schemas}
    for target, place in schemas:
        cls = configuration_class(target)
        before = "" if place == _OWN else f"{place}."
        idle = getattr(cls, "no_effect", {})
        for name, default, allowed, meaning in _keys(cls):
            key = before + name.strip("`")
            if key in parts or key in idle:
                continue
            if key in choices:
                default, allowed = f"`{choices[key]}`", f"a choice of [{key}](#{key})"
            elif (found := OmegaConf.select(values, key)) is not None:
                default = f"`{_short(found)}`"
            rows.append([f"`{key}`", default, allowed, meaning])
    return markdown_table(["key", "default", "allowed", "meaning"], rows)


def _content(file: Path) -> tuple[list[tuple[str, str]], dict[str, str], Any]:
    """Returns what a command's file consists of, and the files that it goes on from.

    Returns:
        The classes of its schemas with the place of each, its choices by group, and its values.
    """
    node = OmegaConf.load(file)
    assert isinstance(node, DictConfig)
    schemas: list[tuple[str, str]] = []
    choices: dict[str, str] = {}
    values: Any = OmegaConf.create()
    for entry in node.pop("defaults"):
        if isinstance(entry, DictConfig):
            chosen = {str(group): choice for group, choice in entry.items()}
            choices |= {group: name or "null" for group, name in chosen.items() if " " not in group}
        elif match := _PLACED.fullmatch(entry):
            schemas.append((match[1].replace("/", "."), match[2]))
        elif entry != "_self_":
            more, below, set_there = _content(file.with_name(f"{entry}.yaml"))
            schemas += more
            choices |= below
            values = OmegaConf.merge(values, set_there)
    return schemas, choices, OmegaConf.merge(values, node)


def _group(group: str) -> Iterator[str]:
    yield f"## {group}"
    found = {name: catalog.choice_file(group, name) for name in catalog.names(group)}
    files = {name: file for name, file in found.items() if file is not None}
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
