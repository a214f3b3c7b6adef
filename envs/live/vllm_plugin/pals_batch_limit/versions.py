"""Which vLLM versions the plug-in works with."""

from __future__ import annotations

import os
import re

TESTED = ("0.32",)
"""Releases (``major.minor``) that the plug-in was run against."""

OVERRIDE = "PALS_BATCH_LIMIT_ANY_VLLM"


class UnsupportedVllmError(ImportError):
    """The installed vLLM is one that the plug-in was never run against."""


def check(version: str) -> None:
    """Refuses a vLLM version that the plug-in was not tested with.

    Args:
        version: What ``vllm.__version__`` says, such as ``"0.32.0+cpu"``.

    Raises:
        UnsupportedVllmError: The release is not in :data:`TESTED` and the environment variable
            :data:`OVERRIDE` is not ``1``.
    """
    release = re.match(r"\d+\.\d+", version)
    if (release and release.group() in TESTED) or os.environ.get(OVERRIDE) == "1":
        return
    raise UnsupportedVllmError(
        f"pals_batch_limit was tested with vLLM {', '.join(TESTED)}; this is {version}. "
        "It changes vLLM's scheduler, which has no public interface, so it does not guess. "
        f"Install a tested version, or set {OVERRIDE}=1 to try this one at your own risk."
    )
