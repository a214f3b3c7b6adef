"""Messages between the helper and its clients: one JSON object a line, each answered by one."""

from __future__ import annotations

import json
import re
import sys
from typing import Any, NamedTuple

SOCKET = "/run/pals-cap-helper/socket"
MAX_BYTES = 4096
"""Longest line, either way."""

MAX_GPUS = 64
LIMITS, CAP, RESTORE = "limits", "cap", "restore"
RANGE, BUSY, STRANGER, BAD, DEVICE = "range", "busy", "stranger", "bad", "device"
"""Kinds of refusals."""

_NAME = re.compile(r"[\w.-]{1,96}", re.ASCII)
_KEYS = {LIMITS: {"gpus"}, CAP: {"gpus", "watts", "lease"}, RESTORE: {"lease"}}


class Refused(Exception):
    """A request that is refused.

    Attributes:
        kind: One of the kinds above, for programs.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Request(NamedTuple):
    """What a client asks.

    Attributes:
        do: :data:`LIMITS`, :data:`CAP` or :data:`RESTORE`.
        gpus: UUIDs of GPUs.
        watts: The cap; ``None`` leaves it and renews the lease only.
        lease: Name of the lease, which only its holder knows.
    """

    do: str
    gpus: tuple[str, ...] = ()
    watts: float | None = None
    lease: str = ""


def parsed(line: bytes) -> Request:
    """Returns the request that a line is.

    Raises:
        Refused: It is none; nothing of it was done.
    """
    try:
        told = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Refused(BAD, "send a JSON object a line") from error
    do = told.get("do") if isinstance(told, dict) else None
    if not isinstance(do, str) or do not in _KEYS:
        raise Refused(BAD, f"do: must be one of {', '.join(_KEYS)}")
    if set(told) - {"do"} != _KEYS[do]:
        raise Refused(BAD, f"{do} takes {', '.join(sorted(_KEYS[do]))}")
    gpus, watts, lease = told.get("gpus", []), told.get("watts"), told.get("lease", "")
    if "gpus" in told and not (
        isinstance(gpus, list) and 0 < len(gpus) <= MAX_GPUS and all(map(_is_name, gpus))
    ):
        raise Refused(BAD, f"gpus: must be 1 to {MAX_GPUS} UUIDs")
    if len(set(gpus)) != len(gpus):
        raise Refused(BAD, "gpus: must name each once")
    if watts is not None and not _is_number(watts):
        raise Refused(BAD, "watts: must be a number or null")
    if "lease" in told and not _is_name(lease):
        raise Refused(BAD, "lease: must be a name of letters and digits")
    return Request(do, tuple(gpus), None if watts is None else float(watts), lease)


def answer(**facts: Any) -> bytes:
    """Returns the line that answers a request."""
    return json.dumps({"ok": True, **facts}).encode() + b"\n"


def refusal(problem: Refused) -> bytes:
    """Returns the line that refuses a request."""
    told = {"ok": False, "kind": problem.kind, "message": str(problem)[:1000]}
    return json.dumps(told).encode() + b"\n"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    # A whole number may be larger than any float; NaN compares as false.
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max
