"""Options of Hydra's may stand anywhere on the command line, also between overrides."""

from __future__ import annotations

from collections.abc import Sequence

_WITH_VALUE = frozenset(
    {
        "--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--cfg", "-c",
        "--package", "-p", "--experimental-rerun",
    }
)  # fmt: skip
_INFO = frozenset({"--info", "-i"})
_ABOUT = frozenset({"all", "config", "defaults", "defaults-tree", "plugins", "searchpath"})


def options_first(arguments: Sequence[str]) -> list[str]:
    """Returns a command line with its options before its overrides, both in their order.

    Hydra's parser takes overrides in one row only: those behind an option that follows other
    overrides would be called unrecognised.
    """
    options: list[str] = []
    overrides: list[str] = []
    waiting = list(reversed(arguments))
    while waiting:
        text = waiting.pop()
        if text in _INFO:  # it may stand alone, and must not take an override for its value
            about = waiting.pop() if waiting and waiting[-1] in _ABOUT else "all"
            options.append(f"--info={about}")
        elif text.startswith("-"):
            options.append(text)
            if text in _WITH_VALUE and waiting:
                options.append(waiting.pop())
        else:
            overrides.append(text)
    return [*options, *overrides]
