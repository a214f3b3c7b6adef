"""What docstrings say of classes and their fields, for generated pages."""

from __future__ import annotations

import inspect
import re
from typing import Any

_UNITS = {
    "_tok_s": "tokens/s",
    "_per_s": "1/s",
    "_per_kwh": "1/kWh",
    "_g_kwh": "g/kWh",
    "_mhz": "MHz",
    "_tokens": "tokens",
    "_samples": "requests",
    "_s": "s",
    "_w": "W",
    "_j": "J",
}


def summary_line(cls: type[Any]) -> str:
    """Returns the first paragraph of a class's docstring, in Markdown."""
    return _markdown((inspect.getdoc(cls) or "").partition("\n\n")[0])


def attributes_of(cls: type[Any]) -> dict[str, str]:
    """Returns what the docstrings of a class and its bases say of each attribute, in Markdown."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        section = re.search(r"^Attributes:\n((?: {4}.*\n?|\n)+)", text, re.MULTILINE)
        if section is None:
            continue
        entries = re.split(r"^ {4}(\w+): ", section[1], flags=re.MULTILINE)[1:]
        for name, meaning in zip(entries[::2], entries[1::2], strict=True):
            found[name] = _markdown(meaning)
    return found


def unit_of(name: str) -> str:
    """Returns the unit that a name ends with, in words; nothing where it has none."""
    for ending, unit in _UNITS.items():
        if name.endswith(ending):
            return unit
    return ""


def _markdown(text: str) -> str:
    """Returns reStructuredText of docstrings as Markdown in one line."""
    line = " ".join(text.split())
    line = re.sub(r":\w+:`~?([\w.]+\.)?(\w+)`", r"`\2`", line)
    return line.replace("``", "`").replace("|", "\\|")
