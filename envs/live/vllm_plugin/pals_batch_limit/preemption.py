"""Which running requests go back to the queue when the batch limit falls, and whether any may."""

from __future__ import annotations

from typing import Any

from . import features


class Preemption:
    """Preempts requests of one scheduler as vLLM itself would.

    A connector that hands KV caches on must not be given blocks that a preemption freed, so what
    is still in flight of such a request is dropped and computed again. Blocks that a step in
    flight may still write cannot be freed yet; their requests are passed over, and the next step
    looks again. A vLLM that cannot drop output must not preempt beside a connector.

    Attributes:
        allowed: Whether requests may be preempted at all.

    Args:
        scheduler: vLLM's scheduler, built.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        connected = getattr(scheduler, "connector", None) is not None
        can_drop = features.can_drop(type(scheduler))
        self.allowed = can_drop or not connected
        drops = can_drop and getattr(scheduler, "requires_kv_delivery", connected)
        self._how = {features.DROPS: True} if drops else {}
        self._can_be_freed = getattr(scheduler, "_request_blocks_can_be_freed", _always)

    def run(self, count: int, now: float) -> int:
        """Sends requests back to the queue, those first that vLLM would preempt first.

        Args:
            count: How many.
            now: Time of it, for vLLM's events.

        Returns:
            How many were sent back; fewer if the blocks of others cannot be freed yet.
        """
        if not self.allowed:
            return 0
        chosen = [request for request in self._newest_first() if self._can_be_freed(request)]
        for request in chosen[:count]:
            self._scheduler.running.remove(request)
            self._scheduler._preempt_request(request, now, **self._how)
        return min(count, len(chosen))

    def _newest_first(self) -> list[Any]:
        running: list[Any] = list(self._scheduler.running)
        if getattr(self._scheduler.policy, "value", "fcfs") == "priority":
            running.sort(key=lambda item: (item.priority, item.arrival_time))
        return running[::-1]


def _always(request: Any) -> bool:
    return True
