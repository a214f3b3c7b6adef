"""vLLM's schedulers with limits that can change between two steps."""

from __future__ import annotations

import logging
import time
from typing import Any

import vllm

from . import features, versions
from .lease import LimitsError
from .limits import PREEMPT, Limits
from .preemption import Preemption

_CAUTION = versions.check(vllm.__version__)

from vllm.v1.core.sched.async_scheduler import AsyncScheduler  # noqa: E402
from vllm.v1.core.sched.scheduler import Scheduler  # noqa: E402
from vllm.v1.engine.core import EngineCore  # noqa: E402

features.check_classes(Scheduler, AsyncScheduler, vllm.__version__)
if _CAUTION is not None:
    logging.getLogger("vllm.pals_batch_limit").warning(_CAUTION)

_NO_PREEMPTION = (
    f"mode: this vLLM ({vllm.__version__}) has a KV connector and cannot drop output in flight, so "
    "that a preempted request could hand on blocks that were freed; use drain"
)
UTILITY = "pals_batch_limit"
"""Name under which the engine core answers; the route calls it."""


class _Limited:
    """Puts the limits in front of a scheduler's every step."""

    # What vLLM's schedulers, the other base class, bring along.
    running: list[Any]
    max_num_scheduled_tokens: int
    get_request_counts: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        features.check_built(self, vllm.__version__)
        # Admission may have a limit of its own beside the number of runner slots.
        self._slots_name = (
            "max_num_active_reqs"
            if hasattr(self, "max_num_active_reqs")
            else "max_num_running_reqs"
        )
        self.limits = Limits(getattr(self, self._slots_name), self.max_num_scheduled_tokens)
        self._tokens_per_request = 1 + int(getattr(self, "num_spec_tokens", 0) or 0)
        self.preemption = Preemption(self)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """Applies the limits, then lets vLLM schedule."""
        limits = self.limits
        if surplus := limits.begin_step(len(self.running)):
            self.preemption.run(surplus, time.monotonic())
        running = len(self.running)
        limits.observe(running)
        setattr(self, self._slots_name, limits.slots(running))
        self.max_num_scheduled_tokens = limits.tokens(running * self._tokens_per_request)
        return super().schedule(*args, **kwargs)  # type: ignore[misc]

    def limits_state(self) -> dict[str, Any]:
        """Returns the limits and the numbers of running and waiting requests."""
        running, waiting = self.get_request_counts()
        return self.limits.state(running, waiting) | {
            "scheduler": type(self).__name__,
            "vllm": vllm.__version__,
            "preempts": self.preemption.allowed,
        }


class SyncBatchLimitScheduler(_Limited, Scheduler):  # type: ignore[misc]
    """The synchronous scheduler with changeable limits."""


class AsyncBatchLimitScheduler(_Limited, AsyncScheduler):  # type: ignore[misc]
    """The asynchronous scheduler with changeable limits."""


class BatchLimitScheduler:
    """What ``--scheduler-cls`` names: becomes the variant that the configuration asks for."""

    def __new__(cls, vllm_config: Any, *args: Any, **kwargs: Any) -> Any:
        """Builds the asynchronous scheduler where vLLM would use it, else the synchronous."""
        features.check_model(vllm_config)
        asynchronous = vllm_config.scheduler_config.async_scheduling
        variant = AsyncBatchLimitScheduler if asynchronous else SyncBatchLimitScheduler
        return variant(vllm_config, *args, **kwargs)


def _utility(core: Any, changes: Any = None) -> dict[str, Any]:
    """Answers the route inside the engine core: changes the limits, then tells them."""
    scheduler = core.scheduler
    if changes:
        if changes.get("mode") == PREEMPT and not scheduler.preemption.allowed:
            return {"error": _NO_PREEMPTION, "status": 422}
        try:
            scheduler.limits.change(changes, len(scheduler.running))
        except LimitsError as error:
            return {"error": str(error), "status": error.status}
    state: dict[str, Any] = scheduler.limits_state()
    return state


# The engine core looks utility calls up by name on itself.
setattr(EngineCore, UTILITY, _utility)
