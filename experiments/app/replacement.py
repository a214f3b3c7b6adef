"""Lets an override replace a nested choice, where Hydra would merge it into the one before."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def with_replacements(arguments: Sequence[str]) -> list[str]:
    """Returns a command line on which overrides that name a class replace what is there.

    Hydra merges ``workload.lengths.prompt={_target_:...Fixed,tokens:128}`` into the fields of the
    class that was chosen before, which has no ``tokens``. The key is emptied first.

    Args:
        arguments: The command line's arguments.
    """
    spelt: list[str] = []
    for text in arguments:
        key, equals, _ = text.partition("=")
        if equals and "." in key and "_target_" in text and _names_class(text):
            spelt.append(f"{key}=null")
        spelt.append(text)
    return spelt


def _names_class(text: str) -> bool:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        return False  # Hydra will say what is wrong with it
    if override.is_sweep_override() or override.is_delete():
        return False
    value = override.value()
    return isinstance(value, dict) and any(str(name) == "_target_" for name in value)
