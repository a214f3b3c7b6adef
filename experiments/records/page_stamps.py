"""Stamps of pages: by which step and which code a page's numbers were made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from envs.cache import atomic_write_text
from envs.errors import ConfigurationError
from experiments.records.step_code import step_code

_STAMP = re.compile(
    r"\n*<!-- made (?P<step>\w+) by (?P<command>[\w.]+) code (?P<code>\w+) -->\n"
    r"(?P<words>\*[^\n]*\*)\n"
)


@dataclass(frozen=True)
class Stamp:
    """Who made a page, or a part of it.

    Attributes:
        page: The page.
        step: Name of the step of ``make results``.
        command: Module of the command that the step runs.
        code: Hash of the command's code (:func:`experiments.records.step_code.step_code`).
    """

    page: Path
    step: str
    command: str
    code: str

    @property
    def is_current(self) -> bool:
        """Whether the code is still what made the page."""
        return self.code == step_code(self.command)


def write_stamp(stamp: Stamp, remark: str) -> None:
    """Writes a stamp at the end of its page, in place of that step's earlier one.

    Args:
        stamp: The stamp.
        remark: What else the line says, such as the scale.

    Raises:
        ConfigurationError: The page is not there.
    """
    try:
        text = stamp.page.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {stamp.page} ({error.strerror})") from error
    others = [found for found in _STAMP.finditer(text) if found["step"] != stamp.step]
    body = _STAMP.sub("", text).rstrip("\n")
    words = f"*Made by `make results`, step `{stamp.step}`, {remark}; code `{stamp.code}`.*"
    marker = f"<!-- made {stamp.step} by {stamp.command} code {stamp.code} -->"
    lines = {found["step"]: found.group().strip("\n") for found in others}
    lines[stamp.step] = f"{marker}\n{words}"
    ends = "\n\n".join(lines[step] for step in sorted(lines))
    atomic_write_text(stamp.page, f"{body}\n\n{ends}\n")


def stamps_of(page: Path) -> Iterator[Stamp]:
    """Yields the stamps of a page."""
    for found in _STAMP.finditer(page.read_text(encoding="utf-8")):
        yield Stamp(page, found["step"], found["command"], found["code"])


def stamps_below(folder: Path) -> Iterator[Stamp]:
    """Yields the stamps of all pages below a folder."""
    for page in sorted(folder.rglob("*.md")):
        yield from stamps_of(page)
