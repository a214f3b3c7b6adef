"""Who may hold which GPUs' caps, between which bounds, and until when."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from envs.errors import DeviceError
from envs.live.cap_helper.protocol import BUSY, DEVICE, RANGE, Refused
from envs.live.devices.cap_notes import CapNotes
from envs.live.devices.nvml import Nvml
from envs.live.errors import DeviceBusyError
from envs.live.locks import Locks

_LOG = logging.getLogger(__name__)


@dataclass
class Lease:
    """Caps that are held for a client.

    Attributes:
        name: Known to its holder only.
        holder: Its process and user, for messages.
        connection: The connection that it ends with.
        device: Its GPUs.
        found: What to put back.
        limits: Floor and ceiling when it began; a cap that others set since binds beneath them.
        ends_s: When it lapses.
        locks: They keep other controllers of root's off these GPUs.
        over: Whether it ended, and what was found is still to be put back.
    """

    name: str
    holder: str
    connection: int
    device: Nvml
    found: dict[str, Any]
    limits: dict[str, float]
    ends_s: float
    locks: Locks
    over: bool = False


class Leases:
    """Sets caps for those who hold a lease, and puts them back when it ends.

    Args:
        gpus: NVML indices or UUIDs of the GPUs that may be capped.
        floor_w: No cap below this is set; ``None`` takes the GPU's lowest.
        ceiling_w: No cap above this is set; ``None`` takes the cap found on the GPU.
        lease_s: Time without a word of its holder after which a lease lapses.
        now: A clock in seconds.

    Raises:
        DeviceError: One of the GPUs is not there.
    """

    def __init__(
        self,
        gpus: Sequence[str],
        floor_w: float | None,
        ceiling_w: float | None,
        lease_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._floor_w = floor_w
        self._ceiling_w = ceiling_w
        self._lease_s = lease_s
        self._now = now
        self._leases: dict[str, Lease] = {}
        device = Nvml(gpus=list(gpus))
        device.open(None)
        self.gpus = tuple(device.keys)
        device.close()
        self._put_back_what_was_left()

    def _put_back_what_was_left(self) -> None:
        """A helper that was killed has left caps; its notes tell what was found before."""
        for uuid in self.gpus:
            if CapNotes().read(uuid) is None:
                continue
            try:
                locks = Locks([uuid])
            except DeviceBusyError as error:  # of a controller that is root itself
                _LOG.warning("%s", error)
                continue
            with contextlib.closing(locks), contextlib.closing(self._opened((uuid,))) as device:
                device.restore(device.take_control())

    def limits(self, gpus: tuple[str, ...]) -> dict[str, float]:
        """Returns ``floor_w``, ``ceiling_w`` and ``found_w`` of some GPUs.

        Raises:
            Refused: One of them is none of ours, or is not well.
        """
        held = [
            lease.device for lease in self._leases.values() if set(lease.device.keys) == set(gpus)
        ]
        device = held[0] if held else self._opened(gpus)
        try:
            limits, found = device.limits, device.cap_found_w
        except DeviceError as error:
            raise Refused(DEVICE, str(error)) from error
        finally:
            if not held:
                device.close()
        low, high = limits.cap_min_w, limits.cap_max_w
        ceiling = found if self._ceiling_w is None else self._ceiling_w
        return {
            "floor_w": max(low, low if self._floor_w is None else self._floor_w),
            "ceiling_w": min(high, ceiling),
            "found_w": found,
        }

    def cap(
        self, gpus: tuple[str, ...], watts: float | None, name: str, holder: str, connection: int
    ) -> dict[str, Any]:
        """Begins or renews a lease, and sets a cap if one is named.

        Returns:
            ``changes``: caps that others changed since the last answer; ``lease_s``.

        Raises:
            Refused: The cap is out of range, or one of the GPUs is held already.
        """
        lease = self._leases.get(name)
        limits = self.limits(gpus) if lease is None else lease.limits
        if watts is not None and not limits["floor_w"] <= watts <= limits["ceiling_w"]:
            raise Refused(
                RANGE,
                f"{watts:g} W is outside {limits['floor_w']:g}..{limits['ceiling_w']:g} W, which "
                "the helper was started with or has found",
            )
        if lease is None:
            lease = self._begun(gpus, name, holder, connection, limits)
        if lease.over or set(lease.device.keys) != set(gpus):
            raise Refused(BUSY, "the lease is for other GPUs, or is being ended; try again")
        lease.ends_s, lease.connection = self._now() + self._lease_s, connection
        try:
            if watts is not None:
                lease.device.set_power_cap(watts)
        except DeviceError as error:
            raise Refused(DEVICE, str(error)) from error
        return {"changes": lease.device.take_changes_by_others(), "lease_s": self._lease_s}

    def _begun(
        self,
        gpus: tuple[str, ...],
        name: str,
        holder: str,
        connection: int,
        limits: dict[str, float],
    ) -> Lease:
        for lease in self._leases.values():
            if taken := set(lease.device.keys) & set(gpus):
                raise Refused(BUSY, f"{', '.join(sorted(taken))}: held by {lease.holder}")
        with contextlib.ExitStack() as if_it_fails:
            try:
                locks = Locks(list(gpus))
                if_it_fails.callback(locks.close)
                device = self._opened(gpus)
                if_it_fails.callback(device.close)
                found = device.take_control()
            except DeviceBusyError as error:
                raise Refused(BUSY, str(error)) from error
            except DeviceError as error:
                raise Refused(DEVICE, str(error)) from error
            if_it_fails.pop_all()
        lease = Lease(name, holder, connection, device, found, limits, 0.0, locks)
        self._leases[name] = lease
        _LOG.info("%s holds %s", holder, ", ".join(gpus))
        return lease

    def restore(self, name: str) -> None:
        """Ends a lease and puts back what was found; harmless if there is none of the name.

        Raises:
            Refused: It could not be put back yet; it is tried again.
        """
        if (lease := self._leases.get(name)) is not None:
            self._end(lease, "was given back")
            if lease.over:
                raise Refused(
                    DEVICE, "the cap could not be put back yet; the helper goes on trying"
                )

    def held_by(self, connection: int) -> bool:
        """Returns whether a connection holds a lease."""
        return any(
            lease.connection == connection and not lease.over for lease in self._leases.values()
        )

    def connection_closed(self, connection: int) -> None:
        """Ends the leases of a connection."""
        for lease in list(self._leases.values()):
            if lease.connection == connection and not lease.over:
                self._end(lease, "ended: its holder is gone")

    def tick(self) -> None:
        """Ends leases that lapsed, tries again what could not be put back, looks for changes."""
        for lease in list(self._leases.values()):
            if lease.over:
                self._end(lease, "is tried again")
            elif self._now() >= lease.ends_s:
                self._end(lease, f"lapsed: nothing was heard for {self._lease_s:g} s")
            else:
                try:
                    lease.device.read()  # notices caps that others changed
                except DeviceError as error:
                    _LOG.warning("%s", error)

    def close(self) -> None:
        """Puts everything back."""
        for lease in list(self._leases.values()):
            self._end(lease, "ended: the helper ends")

    def _end(self, lease: Lease, why: str) -> None:
        _LOG.info("the lease of %s %s", lease.holder, why)
        lease.over = True
        try:
            lease.device.restore(lease.found)
        except (DeviceError, OSError) as error:
            _LOG.error("could not put back: %s", error)
            return
        lease.over = False
        lease.device.close()
        lease.locks.close()
        del self._leases[lease.name]

    def _opened(self, gpus: tuple[str, ...]) -> Nvml:
        if strangers := set(gpus) - set(self.gpus):
            raise Refused(RANGE, f"{', '.join(sorted(strangers))}: not among the helper's GPUs")
        device = Nvml(gpus=list(gpus))
        try:
            device.open(None)
        except DeviceError as error:
            device.close()
            raise Refused(DEVICE, str(error)) from error
        return device
