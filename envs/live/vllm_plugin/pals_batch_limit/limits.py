"""The limits themselves: what may be set, and what holds at the next step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

DRAIN = "drain"
PREEMPT = "preempt"
MODES = (DRAIN, PREEMPT)
KEYS = ("max_num_seqs", "max_num_batched_tokens", "mode")


def check_body(body: object) -> dict[str, Any]:
    """Returns the changes that a request's body asks for.

    Raises:
        ValueError: The body is no object, is empty, or has an unknown key or a wrong type.
    """
    if not isinstance(body, dict) or not body:
        raise ValueError(f"send a JSON object with some of {', '.join(KEYS)}")
    for key, value in body.items():
        if key not in KEYS:
            raise ValueError(f"{key}: unknown; there are {', '.join(KEYS)}")
        if key == "mode":
            if value not in MODES:
                raise ValueError(f"mode: must be one of {', '.join(MODES)}")
        elif not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{key}: must be a whole number")
    return dict(body)


class Limits:
    """Batch limit and token budget of one scheduler.

    Attributes:
        ceiling_num_seqs: Batch limit the server was started with; buffers are sized for it.
        ceiling_num_batched_tokens: Token budget a step the server was started with.
        max_num_seqs: Batch limit asked for.
        max_num_batched_tokens: Token budget asked for.
        mode: ``"drain"`` lets running requests finish when the limit falls; ``"preempt"``
            sends the newest back to the queue, where they wait and are computed again.
        steps: Scheduling steps so far.
    """

    def __init__(
        self,
        ceiling_num_seqs: int,
        ceiling_num_batched_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ceiling_num_seqs = ceiling_num_seqs
        self.ceiling_num_batched_tokens = ceiling_num_batched_tokens
        self.max_num_seqs = ceiling_num_seqs
        self.max_num_batched_tokens = ceiling_num_batched_tokens
        self.mode = DRAIN
        self.steps = 0
        self._clock = clock
        self._set_at = clock()
        self._effect_delay_s: float | None = 0.0

    def change(self, changes: Mapping[str, Any], running: int) -> None:
        """Takes new limits; they hold from the next step on.

        Args:
            changes: What :func:`check_body` returned.
            running: Requests running now.

        Raises:
            ValueError: A limit is out of range; then nothing has changed.
        """
        for key, ceiling in (
            ("max_num_seqs", self.ceiling_num_seqs),
            ("max_num_batched_tokens", self.ceiling_num_batched_tokens),
        ):
            if key in changes and not 1 <= changes[key] <= ceiling:
                raise ValueError(f"{key}: {changes[key]} is outside 1..{ceiling}")
        self.max_num_seqs = changes.get("max_num_seqs", self.max_num_seqs)
        self.max_num_batched_tokens = changes.get(
            "max_num_batched_tokens", self.max_num_batched_tokens
        )
        self.mode = changes.get("mode", self.mode)
        self._set_at = self._clock()
        self._effect_delay_s = None
        self.observe(running)

    def surplus(self, running: int) -> int:
        """Returns how many requests must be preempted before the next step."""
        return max(0, running - self.max_num_seqs) if self.mode == PREEMPT else 0

    def observe(self, running: int) -> None:
        """Notes when the running requests first fit the limit after it was changed."""
        if self._effect_delay_s is None and running <= self.max_num_seqs:
            self._effect_delay_s = self._clock() - self._set_at

    def slots(self, running: int) -> int:
        """Returns the batch limit of the next step.

        vLLM asserts that no more requests run than the limit allows, so while a lowered limit
        drains it must not fall below their number.
        """
        return max(self.max_num_seqs, running)

    def tokens(self, floor: int) -> int:
        """Returns the token budget of the next step.

        Args:
            floor: Tokens that the running requests need to make one step each.
        """
        return min(max(self.max_num_batched_tokens, floor), self.ceiling_num_batched_tokens)

    def state(self, running: int, waiting: int) -> dict[str, Any]:
        """Returns everything as plain values.

        ``effect_delay_s`` is the time from the last change until the running requests fitted
        the limit; ``None`` while they do not.
        """
        return {
            "max_num_seqs": self.max_num_seqs,
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "mode": self.mode,
            "ceiling_num_seqs": self.ceiling_num_seqs,
            "ceiling_num_batched_tokens": self.ceiling_num_batched_tokens,
            "running": running,
            "waiting": waiting,
            "steps": self.steps,
            "effect_delay_s": self._effect_delay_s,
        }
