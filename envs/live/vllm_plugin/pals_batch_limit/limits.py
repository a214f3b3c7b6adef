"""The limits themselves: what may be set, and what holds at the next step."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from .lease import (
    LONGEST_LEASE_S,
    OWNER_LENGTH,
    HeldError,
    Lease,
    LimitsError,
    OtherInstanceError,
    Settings,
)

DRAIN = "drain"
PREEMPT = "preempt"
MODES = (DRAIN, PREEMPT)
WHOLE = ("max_num_seqs", "max_num_batched_tokens")
TEXTS = ("mode", "instance", "owner")
KEYS = (*WHOLE, *TEXTS, "lease_s")


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
        if key in WHOLE and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"{key}: must be a whole number")
        if key in TEXTS and not isinstance(value, str):
            raise ValueError(f"{key}: must be a text")
    if body.get("mode", DRAIN) not in MODES:
        raise ValueError(f"mode: must be one of {', '.join(MODES)}")
    if ("owner" in body) != ("lease_s" in body):
        raise ValueError("owner, lease_s: one needs the other")
    if "owner" in body:
        _check_lease(body["owner"], body["lease_s"])
    return dict(body)


def _check_lease(owner: str, seconds: object) -> None:
    if not 1 <= len(owner) <= OWNER_LENGTH or not owner.isprintable():
        raise ValueError(f"owner: must be 1 to {OWNER_LENGTH} characters that can be printed")
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        raise ValueError("lease_s: must be a number")
    if not 0 <= seconds <= LONGEST_LEASE_S:
        raise ValueError(f"lease_s: {seconds} is outside 0..{LONGEST_LEASE_S:g}")


class Limits:
    """Batch limit and token budget of one scheduler.

    A caller that names itself (``owner``) with a ``lease_s`` controls the limits alone until it
    stops renewing the lease; what was in force before comes back then, so that nothing is left
    behind by a controller that is gone together with its machine.

    Attributes:
        instance: Names this scheduler for good; one that replaces it has another name.
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
        self.instance = secrets.token_hex(8)
        self.ceiling_num_seqs = ceiling_num_seqs
        self.ceiling_num_batched_tokens = ceiling_num_batched_tokens
        self.max_num_seqs = ceiling_num_seqs
        self.max_num_batched_tokens = ceiling_num_batched_tokens
        self.mode = DRAIN
        self.steps = 0
        self._clock = clock
        self._lease: Lease | None = None
        self._set_at = 0.0
        self._effect_delay_s: float | None = 0.0

    def change(self, changes: Mapping[str, Any], running: int) -> None:
        """Takes new limits; they hold from the next step on.

        Args:
            changes: What :func:`check_body` returned. ``instance`` makes the change only if it
                names this scheduler (or, joined by ``+``, this one among others). ``owner``
                and ``lease_s`` take or renew control for so long; 0 seconds give it up, and
                what was found comes back.
            running: Requests running now.

        Raises:
            OtherInstanceError: The change was meant for another scheduler.
            HeldError: Another controller is in control.
            LimitsError: A limit is out of range. In each case nothing has changed.
        """
        self._lapse()
        if "instance" in changes and self.instance not in changes["instance"].split("+"):
            raise OtherInstanceError(f"this is instance {self.instance}, not the one meant")
        lease, owner = self._lease, changes.get("owner")
        if lease is not None and owner != lease.owner:
            left = lease.ends - self._clock()
            raise HeldError(f"controlled by {lease.owner}; its lease lapses in {left:.0f} s")
        for key, ceiling in zip(
            WHOLE, (self.ceiling_num_seqs, self.ceiling_num_batched_tokens), strict=True
        ):
            if key in changes and not 1 <= changes[key] <= ceiling:
                raise LimitsError(f"{key}: {changes[key]} is outside 1..{ceiling}")
        if owner is not None and changes["lease_s"] == 0:
            if lease is not None:
                self._put_back(lease)
        else:
            if owner is not None:
                found = self._settings if lease is None else lease.found
                self._lease = Lease(owner, self._clock() + changes["lease_s"], found)
            settings = self._settings._replace(**_limits_in(changes))
            if settings != self._settings:
                self._set(settings)
        self.observe(running)

    @property
    def _settings(self) -> Settings:
        return Settings(self.max_num_seqs, self.max_num_batched_tokens, self.mode)

    def _set(self, settings: Settings) -> None:
        self.max_num_seqs, self.max_num_batched_tokens, self.mode = settings
        self._set_at = self._clock()
        self._effect_delay_s = None

    def _put_back(self, lease: Lease) -> None:
        self._lease = None
        self._set(lease.found)

    def _lapse(self) -> None:
        """Ends a lease that nobody renewed."""
        if self._lease is not None and self._clock() > self._lease.ends:
            self._put_back(self._lease)

    def begin_step(self, running: int) -> int:
        """Counts a step, and returns how many requests must be preempted before it."""
        self.steps += 1
        self._lapse()
        return self.surplus(running)

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
        the limit; ``None`` while they do not. ``owner`` is the caller in control, or ``None``.
        """
        self._lapse()
        lease = self._lease
        return {
            **self._settings._asdict(),
            "instance": self.instance,
            "owner": None if lease is None else lease.owner,
            "lease_left_s": None if lease is None else max(0.0, lease.ends - self._clock()),
            "ceiling_num_seqs": self.ceiling_num_seqs,
            "ceiling_num_batched_tokens": self.ceiling_num_batched_tokens,
            "running": running,
            "waiting": waiting,
            "steps": self.steps,
            "effect_delay_s": self._effect_delay_s,
        }


def _limits_in(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: changes[key] for key in (*WHOLE, "mode") if key in changes}
