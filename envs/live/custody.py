"""What was found before control began, and who puts it back."""

from __future__ import annotations

import logging
import threading
from dataclasses import fields
from typing import Any

from envs.live.devices.base import PowerDevice
from envs.live.guard import RETRY_S, Guard, Plan, restore
from envs.live.host import Host
from envs.live.limit_control import LimitControl
from envs.live.locks import Locks

_LOG = logging.getLogger(__name__)
_ENDS_WITH_SERVER = ("server", "batch_limit", "runtime_config")


class Custody:
    """Holds the locks, the settings found, and the guard; puts everything back once.

    What was found is noted once for each thing that is set: a device until it is released, the
    limits of one instance of the server by its plug-in for as long as the lease runs. Taking
    control again, after a recovery, finds our own settings and does not note them.

    Args:
        host: The server.
        device: The power device, open.
    """

    def __init__(self, host: Host, device: PowerDevice) -> None:
        self._host = host
        self._device = device
        self._limit: LimitControl | None = None
        self._locks: list[Locks] = []
        self._locked: set[str] = set()
        self._guard: Guard | None = None
        self._plan: Plan = {}
        self._change = threading.RLock()  # the actuator meets a replaced server on its own
        self.guard_restarts = 0

    def lock(self, limit: LimitControl | None = None) -> None:
        """Locks device, address and instance; the guard is handed the locks.

        Args:
            limit: The way to change the limits of the instance that answers.

        Raises:
            DeviceBusyError: Another controller is in control.
        """
        self._limit = limit or self._limit
        names = {*self._device.keys, self._host.url}
        if self._limit is not None and self._limit.instance is not None:
            # One server has many addresses (localhost, 127.0.0.1) and one instance.
            names.add(f"vllm-{self._limit.instance}")
        if missing := names - self._locked:
            self._locks.append(Locks(sorted(missing)))
            self._locked |= missing

    def watch_process(self) -> None:
        """Starts to guard a server of ours: it shall not outlive us."""
        with self._change:
            if self._host.process is not None:
                self._plan["server"] = self._host.process.identity
            self._update()

    def take_device(self) -> None:
        """Locks the device, notes the settings found, and has them guarded.

        Raises:
            DeviceError: Another controller is in control, or the device may not be set.
            ActuationError: The guard did not start.
        """
        with self._change:
            self.lock()
            if "device" in self._plan:
                return
            self._plan["device"] = {
                "class": f"{type(self._device).__module__}.{type(self._device).__qualname__}",
                "config": _configuration(self._device),
                "found": self._device.take_control(),
            }
            self._update()

    def take_limit(self, limit: LimitControl, mode: str) -> dict[str, Any]:
        """Takes control of the limits of whichever instance answers, and has it guarded.

        Args:
            limit: The way to change them.
            mode: How a lowered batch limit takes hold.

        Returns:
            The limits in force before anything was set.

        Raises:
            ServerError: The server does not answer, or another controller is in control.
        """
        with self._change:
            self._limit = limit
            found = limit.read()
            self.lock()
            self._plan |= limit.plan
            self._update()  # the guard knows before anything changes
            limit.take(mode)
            return found

    def note_limit(self, limit: LimitControl) -> None:
        """Tells the guard what is going to be set, where it has to know that to restore."""
        with self._change:
            if any(self._plan.get(key) != value for key, value in limit.plan.items()):
                self._plan |= limit.plan
                self._update()

    def release_device(self) -> None:
        """Puts the device back before its process is replaced."""
        with self._change:
            if spec := self._plan.get("device"):
                self._device.restore(spec["found"])
                del self._plan["device"]
                self._update()

    def keep_guarded(self) -> None:
        """Starts the guard again, in case it was ended."""
        with self._change:
            if self._guard is not None and not self._guard.alive:
                _LOG.warning("the guard process ended; starting another")
                self.guard_restarts += 1
                self._guard = None
                self._update()

    def _update(self) -> None:
        """Tells the guard the plan; one that does not hold all our locks yet is replaced."""
        descriptors = [number for locks in self._locks for number in locks.descriptors]
        if self._guard is not None and self._guard.holds == descriptors:
            self._guard.update(self._plan)
        elif self._plan:
            before, self._guard = self._guard, Guard(self._plan, descriptors)
            if before is not None:
                before.release()

    def close(self) -> list[str]:
        """Puts everything back, and lets go.

        Returns:
            What could not be put back; the guard then goes on trying.
        """
        with self._change:
            plan, self._plan = self._plan, {}
            guard, self._guard = self._guard, None
            problems = ["interrupted"]
            try:
                problems = self._put_back(plan)
            finally:  # interrupted once more: then it is the guard's work
                if guard is not None:
                    if not problems:
                        guard.release()
                    elif guard.restore():
                        problems = []
                for locks in self._locks:
                    locks.close()
                self._locks, self._locked = [], set()
            for problem in problems:
                _LOG.error("could not restore: %s", problem)
            if problems and guard is not None:
                _LOG.error("the guard (process %d) goes on trying for %g s", guard.pid, RETRY_S)
            return problems

    def _put_back(self, plan: Plan) -> list[str]:
        # A process of ours is ended by its host, and its limit ends with it.
        ours = "server" in plan and self._host.process is not None
        kept = {k: v for k, v in plan.items() if not (ours and k in _ENDS_WITH_SERVER)}
        problems = restore(kept, self._device)
        if ours:
            self._host.close()
        return problems


def _configuration(device: PowerDevice) -> dict[str, Any]:
    """Returns the keyword arguments that build the same device again."""
    return {item.name: getattr(device, item.name) for item in fields(device)}  # type: ignore[arg-type]
