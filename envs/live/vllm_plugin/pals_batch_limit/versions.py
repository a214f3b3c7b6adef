"""Which vLLM releases the plug-in was run with; what it needs of them is in ``features``."""

from __future__ import annotations

import os
import re

OLDEST = (0, 24)
"""The oldest release (``major, minor``) that the plug-in was run with; older ones are refused."""

NEWEST = (0, 33)
"""The newest release that the plug-in was run with; newer ones are tried, and say so."""

OVERRIDE = "PALS_BATCH_LIMIT_ANY_VLLM"


class UnsupportedVllmError(ImportError):
    """The installed vLLM is too old, or lacks something that the plug-in needs."""


def check(version: str) -> str | None:
    """Refuses a vLLM that is older than any that the plug-in was run with.

    Args:
        version: What ``vllm.__version__`` says, such as ``"0.32.0+cpu"``.

    Returns:
        A caution for the log if the release is newer than any that the plug-in was run with,
        or cannot be told; ``None`` if it was run with it.

    Raises:
        UnsupportedVllmError: It is older, and the environment variable :data:`OVERRIDE` is
            not ``1``.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    release = (int(found[1]), int(found[2])) if found else None
    if release is not None and OLDEST <= release <= NEWEST:
        return None
    tested = f"{_text(OLDEST)} to {_text(NEWEST)}"
    if release is not None and release < OLDEST and os.environ.get(OVERRIDE) != "1":
        raise UnsupportedVllmError(
            f"pals_batch_limit was run with vLLM {tested}; this is {version}. Install a newer "
            f"one, or set {OVERRIDE}=1 to try this one at your own risk."
        )
    return (
        f"pals_batch_limit was run with vLLM {tested} and not with {version}; all that it needs "
        "of vLLM is there, so it goes on"
    )


def _text(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))
