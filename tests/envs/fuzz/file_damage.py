"""Damages files as hands, tools and disks do."""

from __future__ import annotations

import copy
import gzip
import random
from typing import Any

ODD_TEXT = (
    "", "NaN", "nan", "inf", "-1", "0", "1e308", "-0.0", "9" * 40, "null", "None", "true", "''",
    '"', ",", ";", "\t", "\0", "\ufeff", "é", "２", "1_000", "0x10", "1.5", "2023-11-16",
    "20231116", "1700158623980", "{", "}", "[", "]", "\\", "=1+1", "#", "\x1b[31m", " ",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 1.5, -0.5, 1e308, float("nan"), float("inf"), 2**31,
    2**63, 10**30, "", "x", "8", [], [1], [[]], {}, {"a": 1}, ["full_attention"], "auto",
)  # fmt: skip


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Returns a file with one to three kinds of damage.

    Args:
        content: What was in it.
        rng: Decides.
    """
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = rng.choice(_KINDS)(content, rng)
    return content


def _flipped(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return content
    place = rng.randrange(len(content))
    return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randint(0, len(content))]


def _without(content: bytes, rng: random.Random) -> bytes:
    place = rng.randint(0, len(content))
    return content[:place] + content[place + rng.randint(1, 30) :]


def _doubled(content: bytes, rng: random.Random) -> bytes:
    place = rng.randint(0, len(content))
    return content[:place] + content[max(0, place - 40) :]


def _with_text(content: bytes, rng: random.Random) -> bytes:
    place = rng.randint(0, len(content))
    return content[:place] + rng.choice(ODD_TEXT).encode() + content[place:]


def _cell_replaced(content: bytes, rng: random.Random) -> bytes:
    cells = content.split(b",")
    cells[rng.randrange(len(cells))] = rng.choice(ODD_TEXT).encode()
    return b",".join(cells)


def _lines_moved(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


def _line_doubled(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"".join(lines)


def _recoded(content: bytes, rng: random.Random) -> bytes:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content
    coding = rng.choice(["utf-16", "utf-16-le", "utf-8-sig", "latin-1", "utf-32"])
    return text.encode(coding, "replace")


def _packed(content: bytes, rng: random.Random) -> bytes:
    return gzip.compress(content)


_KINDS = (
    _flipped, _cut, _without, _doubled, _with_text, _with_text, _cell_replaced, _cell_replaced,
    _lines_moved, _line_doubled, _recoded, _packed,
)  # fmt: skip


def changed(config: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Returns a configuration with one to three values changed, taken out or put in.

    Args:
        config: The configuration.
        rng: Decides.
    """
    found = copy.deepcopy(config)
    for _ in range(rng.randint(1, 3)):
        place: Any = found
        while True:
            inner = [v for v in place.values() if isinstance(v, dict) and v]
            if not inner or rng.random() < 0.5:
                break
            place = rng.choice(inner)
        key = rng.choice(list(place) or ["hidden_size"])
        kind = rng.random()
        if kind < 0.15:
            place.pop(key, None)
        elif kind < 0.3:
            place[f"{key}_more"] = rng.choice(ODD_VALUES)
        elif kind < 0.4 and isinstance(place.get(key), int):
            place[key] = place[key] * rng.choice([-1, 0, 2, 10**9])
        else:
            place[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return found
