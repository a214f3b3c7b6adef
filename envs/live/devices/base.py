"""The interface of a power device: read, set, put back."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Reading(NamedTuple):
    """One look at all GPUs of a device.

    Attributes:
        time_s: ``time.monotonic()`` of the reading.
        power_w: Power per GPU in watts at this moment.
        energy_j: Energy per GPU since some fixed moment, or ``None`` without a counter.
        sm_clock_mhz: SM clock per GPU.
        cap_w: Power cap in force per GPU.
        cap_bound_s: Time per GPU, since some fixed moment, that the cap held the clock down;
            ``None`` where the device only tells whether it does so now.
        cap_binds: Whether the cap holds the clock down now, per GPU.
    """

    time_s: float
    power_w: tuple[float, ...]
    energy_j: tuple[float, ...] | None
    sm_clock_mhz: tuple[float, ...]
    cap_w: tuple[float, ...]
    cap_bound_s: tuple[float, ...] | None
    cap_binds: tuple[bool, ...]


@dataclass(frozen=True)
class DeviceLimits:
    """What a device accepts.

    Attributes:
        cap_min_w: Lowest power cap per GPU.
        cap_max_w: Highest power cap per GPU.
        clock_min_mhz: Lowest SM clock.
        clock_max_mhz: Highest SM clock.
    """

    cap_min_w: float
    cap_max_w: float
    clock_min_mhz: float
    clock_max_mhz: float


class PowerDevice(ABC):
    """The GPUs of one server, or what stands in for them.

    A device is opened, read, taken control of, set, and closed. :meth:`take_control` tells the
    settings found as plain values, and :meth:`restore` puts them back, also in another process.

    Attributes:
        power_source: ``envs.telemetry.MEASURED`` or ``MODELLED``.
        follows_process: Whether the device is the server's process and changes with it.
        opens_to_restore: Whether :meth:`restore` needs :meth:`open` in another process.
    """

    power_source: str
    opens_to_restore = True
    follows_process = False

    @abstractmethod
    def open(self, server_pid: int | None) -> None:
        """Gets ready to read and set; changes nothing.

        Args:
            server_pid: Process of the server, for devices that act on it.

        Raises:
            DeviceError: The device is not there.
        """

    @property
    @abstractmethod
    def num_gpus(self) -> int:
        """GPUs behind this device."""

    @property
    @abstractmethod
    def keys(self) -> list[str]:
        """Names that identify the GPUs on this machine, for the locks."""

    @property
    @abstractmethod
    def limits(self) -> DeviceLimits:
        """What the device accepts."""

    @property
    @abstractmethod
    def cap_found_w(self) -> float:
        """The lowest of the caps that were in force before any controller of ours.

        Raises:
            DeviceError: The device cannot tell.
        """

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the device, as JSON values, for the record of a run."""
        return {}

    def cautions(self, facts: Mapping[str, Any]) -> list[str]:
        """Returns what an operator should know before control begins, one line each.

        Args:
            facts: What :attr:`facts` told.
        """
        return []

    @abstractmethod
    def read(self) -> Reading:
        """Reads all GPUs.

        Raises:
            DeviceLostError: A GPU is gone.
        """

    def check_control(self) -> None:  # noqa: B027 - most devices tell in taking control
        """Tells as early as it can that it cannot be set; changes nothing.

        Raises:
            DeviceError: It cannot.
        """

    @abstractmethod
    def set_power_cap(self, watts: float) -> None:
        """Sets the power cap of every GPU.

        Raises:
            DeviceError: It may not, cannot, or is out of range.
        """

    @abstractmethod
    def lock_clock(self, mhz: float | None) -> None:
        """Bounds the SM clock of every GPU; ``None`` frees it."""

    @abstractmethod
    def take_control(self) -> dict[str, Any]:
        """Gets ready to set; changes nothing that is felt.

        Returns:
            The settings found, as JSON values, enough for :meth:`restore`.

        Raises:
            DeviceError: The device cannot be set.
        """

    @abstractmethod
    def restore(self, found: dict[str, Any]) -> None:
        """Puts back the settings that :meth:`take_control` found; harmless when they hold."""

    def told(self, found: dict[str, Any]) -> str:
        """Returns in words what :meth:`take_control` found, for what could not be put back."""
        return json.dumps(found)

    def take_changes_by_others(self) -> int:
        """Returns how many caps others changed since the last call.

        A device that can tell respects them: what was found is then what they set, and none of
        our caps exceeds it.
        """
        return 0

    def renew(self) -> None:  # noqa: B027 - most devices have nothing to renew
        """Tells the process that sets caps for us, if there is one, that we still want them.

        Raises:
            DeviceError: It is gone.
        """

    @abstractmethod
    def close(self) -> None:
        """Lets go of the device; puts nothing back."""
