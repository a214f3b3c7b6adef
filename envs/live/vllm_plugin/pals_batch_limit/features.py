"""What the plug-in needs of vLLM's scheduler, which has no public interface: looked at, by name."""

from __future__ import annotations

import inspect
from typing import Any

from .versions import UnsupportedVllmError

METHODS = {
    "schedule": (),
    "_preempt_request": ("request", "timestamp"),
    "get_request_counts": (),
}
"""Methods of vLLM's scheduler, with the arguments that they must take."""

ATTRIBUTES = ("max_num_running_reqs", "max_num_scheduled_tokens", "running", "policy")
"""Attributes of a scheduler that was built."""

DROPS = "drop_stale_output"
"""Argument of ``_preempt_request`` that keeps a preemption from breaking a KV hand-off."""


def check_classes(scheduler: type, asynchronous: type, version: str) -> None:
    """Checks vLLM's classes before a server starts.

    Args:
        scheduler: vLLM's scheduler.
        asynchronous: Its asynchronous variant.
        version: vLLM's version, for the message.

    Raises:
        UnsupportedVllmError: Something is missing; the message names it.
    """
    missing = [
        f"{scheduler.__name__}.{name}({', '.join(arguments)})"
        for name, arguments in METHODS.items()
        if not _takes(getattr(scheduler, name, None), arguments)
    ]
    if not issubclass(asynchronous, scheduler):
        missing.append(f"{asynchronous.__name__} as a kind of {scheduler.__name__}")
    _refuse(missing, version)


def check_built(scheduler: Any, version: str) -> None:
    """Checks a scheduler that was built.

    Raises:
        UnsupportedVllmError: It lacks an attribute; the message names it.
    """
    _refuse([f"Scheduler.{name}" for name in ATTRIBUTES if not hasattr(scheduler, name)], version)


def check_model(vllm_config: Any) -> None:
    """Checks that vLLM would have used its ordinary scheduler.

    Raises:
        UnsupportedVllmError: The model is a diffusion model, with a scheduler of its own.
    """
    if getattr(vllm_config, "diffusion_config", None) is not None:
        raise UnsupportedVllmError(
            "pals_batch_limit: diffusion models have a scheduler of their own, which "
            "--scheduler-cls would displace; start this server without the plug-in"
        )


def can_drop(scheduler: type) -> bool:
    """Whether a preemption can say that output in flight is to be dropped."""
    return _takes(getattr(scheduler, "_preempt_request", None), (DROPS,))


def _takes(function: Any, arguments: tuple[str, ...]) -> bool:
    if not callable(function):
        return False
    return set(arguments) <= set(inspect.signature(function).parameters)


def _refuse(missing: list[str], version: str) -> None:
    if missing:
        raise UnsupportedVllmError(
            f"pals_batch_limit: vLLM {version} has no {'; no '.join(missing)}. The plug-in changes "
            "vLLM's scheduler, which has no public interface, and does not guess."
        )
