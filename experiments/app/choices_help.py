"""What ``--help`` of a command shows: the choices of its groups, and its keys."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from envs import catalog
from experiments.app.terminal_text import wrapped

_NARROWEST = 40
_EXPERIMENT = "experiment"
_COMMAND = re.compile(r"[.:;,]?\s*(Use:|run |python -m|``python|gymnasium\.make|[\w/]+=|--).*$")
_FLAGS = """\
-m                sweep: python -m experiments.run -m controller=static,pals seed=1,2
--cfg job         print the configuration instead of running
-sc install=bash  shell completion (docs/experiments.md)
--hydra-help      Hydra's own flags"""


def command_help(name: str, summary: str, overrides: Sequence[str], width: int) -> str:
    """Returns the help of a command that Hydra configures.

    Args:
        name: The command; its file in ``conf``, too.
        summary: What it does, in one line.
        overrides: What else is on its command line: the choices are those that follow from it.
        width: Columns of the terminal.

    Raises:
        HydraException: The overrides do not compose.
    """
    width = max(width, _NARROWEST)
    with initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        node = compose(name, list(overrides), return_hydra_config=True)
    chosen = {
        str(group).partition("@")[0]: choice
        for group, choice in node.hydra.runtime.choices.items()
        if not str(group).startswith("hydra/")
    }
    keys = DictConfig({key: node[key] for key in node if key not in ("hydra", "_target_")})
    parts = [
        "\n".join(textwrap.wrap(summary, width)),
        f"Usage: pals {name} [GROUP=CHOICE] [KEY=VALUE] [KEY.PART=VALUE]\n"
        f"   or: python -m experiments.{name} …",
        "Flags\n" + textwrap.indent(_FLAGS, "  "),
        "Choices (* is what is chosen now)",
        *_groups(chosen, width),
        "Keys, as they are now",
        textwrap.indent(OmegaConf.to_yaml(keys).rstrip(), "  "),
    ]
    return "\n\n".join(parts)


def _groups(chosen: Mapping[str, str | None], width: int) -> Iterator[str]:
    """Yields the text of each group that the command can take a choice of."""
    for group in with_parts(chosen):
        names = [name for name in catalog.names(group) if _fits(group, name, chosen)]
        if not names:
            continue
        longest = max(len(name) for name in names)
        lines = [f"{group}="]
        for name in names:
            mark = "*" if chosen.get(group) == name else " "
            file = catalog.choice_file(group, name)
            comment = first_comment(file) if file else ""
            lines += wrapped(f" {mark} {name:<{longest}}  ", comment, width)
        yield "\n".join(lines)


def _fits(group: str, name: str, chosen: Mapping[str, str | None]) -> bool:
    """Returns whether a command has all the groups that an experiment chooses from."""
    file = catalog.choice_file(group, name)
    if group != _EXPERIMENT or file is None:
        return True
    return {part.partition("/")[0] for part in _parts_of(file)} <= set(with_parts(chosen))


def with_parts(groups: Iterable[str]) -> list[str]:
    """Returns groups and those that their choices take parts from, sorted."""
    found: set[str] = set()
    todo = [group for group in groups if catalog.names(group)]
    while todo:
        group = todo.pop()
        if group not in found:
            found.add(group)
            # What an experiment chooses from is among the command's own groups.
            files = [] if group == _EXPERIMENT else (catalog.CONF_DIR / group).glob("*.yaml")
            todo += {part for file in files for part in _parts_of(file)}
            todo += _inside(group)
    return sorted(found)


def _inside(group: str) -> list[str]:
    folders = (path for path in (catalog.CONF_DIR / group).iterdir() if path.is_dir())
    return [f"{group}/{path.name}" for path in folders]


def _parts_of(file: Path) -> Collection[str]:
    """Returns the groups that the defaults of a file choose from."""
    node = OmegaConf.load(file)
    entries = node.get("defaults", []) if isinstance(node, DictConfig) else []
    named = (str(key) for entry in entries if isinstance(entry, DictConfig) for key in entry)
    groups = (name.removeprefix("override ").partition("@")[0].strip("/") for name in named)
    return [name for name in groups if (catalog.CONF_DIR / name).is_dir()]


def first_comment(file: Path) -> str:
    """Returns what the first comment of a choice's file says it is, without its command."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            text = line.removeprefix("#").strip()
            return _COMMAND.sub("", text).rstrip(" :;,.(") or text
    return ""
