"""Who controls the limits: one holder at a time, for as long as it renews its lease."""

from __future__ import annotations

from typing import NamedTuple

LONGEST_LEASE_S = 3600.0
OWNER_LENGTH = 120


class LimitsError(ValueError):
    """A change that is refused, with the HTTP status that tells why."""

    status = 422


class OtherInstanceError(LimitsError):
    """The change was meant for another process than this one."""

    status = 409


class HeldError(LimitsError):
    """Another controller controls the limits."""

    status = 423


class Settings(NamedTuple):
    """Everything that can be set, and so everything that is put back.

    Attributes:
        max_num_seqs: Batch limit.
        max_num_batched_tokens: Token budget of a step.
        mode: How a lowered batch limit takes hold.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    mode: str


class Lease(NamedTuple):
    """Control of the limits until a moment.

    Attributes:
        owner: Name of the holder.
        ends: When control lapses, on the clock of the limits.
        found: What was in force before; it comes back when the lease ends, however it ends.
    """

    owner: str
    ends: float
    found: Settings
