"""What was found before control began, and who puts it back."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

from envs.live.devices.base import PowerDevice
from envs.live.guard import Guard, Plan, restore
from envs.live.host import Host
from envs.live.locks import Locks

_LOG = logging.getLogger(__name__)


class Custody:
    """Holds the locks, the settings found, and the guard; puts everything back once.

    Args:
        host: The server.
        device: The power device, open.
    """

    def __init__(self, host: Host, device: PowerDevice) -> None:
        self._host = host
        self._device = device
        self._locks: Locks | None = None
        self._guard: Guard | None = None
        self._plan: Plan = {}
        self.guard_restarts = 0

    def lock(self) -> None:
        """Locks device and server; the guard is handed the locks when it starts.

        Raises:
            DeviceBusyError: Somebody else is in control.
        """
        if self._locks is None:
            self._locks = Locks([*self._device.keys, self._host.url])

    def watch_process(self) -> None:
        """Starts to guard a server of ours: it shall not outlive us."""
        if self._host.process is not None:
            self._plan["server"] = self._host.process.identity
        self._update()

    def take_device(self, batch_limit: dict[str, Any] | None) -> None:
        """Locks device and server, notes the settings found, and has them guarded.

        Args:
            batch_limit: The limits found, or ``None`` if they are left alone.

        Raises:
            DeviceError: Somebody else is in control, or the device may not be set.
            ActuationError: The guard did not start.
        """
        self.lock()
        if batch_limit is not None:
            keys = ("max_num_seqs", "max_num_batched_tokens", "mode")
            self._plan["batch_limit"] = {
                "url": self._host.url,
                "headers": self._host.client.headers,
                "body": {key: batch_limit[key] for key in keys},
            }
        self._plan["device"] = {
            "class": f"{type(self._device).__module__}.{type(self._device).__qualname__}",
            "config": _configuration(self._device),
            "found": self._device.take_control(),
        }
        self._update()

    def release_device(self) -> None:
        """Puts the device back before its process is replaced."""
        if spec := self._plan.pop("device", None):
            self._device.restore(spec["found"])
            self._update()

    def keep_guarded(self) -> None:
        """Starts the guard again, should somebody have ended it."""
        if self._guard is not None and not self._guard.alive:
            _LOG.warning("the guard process ended; starting another")
            self.guard_restarts += 1
            self._guard = None
            self._update()

    def _update(self) -> None:
        """Tells the guard the plan."""
        if self._guard is not None:
            self._guard.update(self._plan)
        elif self._plan:
            self._guard = Guard(self._plan, self._locks.descriptors if self._locks else [])

    def close(self) -> list[str]:
        """Puts everything back, and lets go.

        Returns:
            What could not be put back; the guard then tries once more.
        """
        plan, self._plan = self._plan, {}
        # A process of ours is ended by its host.
        problems = restore({k: v for k, v in plan.items() if k != "server"}, self._device)
        if self._host.process is not None and "server" in plan:
            self._host.close()
            problems = [problem for problem in problems if self._host.url not in problem]
        if self._guard is not None:
            if problems:
                self._guard.restore()
            else:
                self._guard.release()
            self._guard = None
        if self._locks is not None:
            self._locks.close()
            self._locks = None
        for problem in problems:
            _LOG.error("could not restore: %s", problem)
        return problems


def _configuration(device: PowerDevice) -> dict[str, Any]:
    """Returns the keyword arguments that build the same device again."""
    return {item.name: getattr(device, item.name) for item in fields(device)}  # type: ignore[arg-type]
