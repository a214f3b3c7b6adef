"""NVIDIA GPUs that are read by us and set by Zeus' daemon: the controller needs no rights.

``zeusd`` is a service of its own (ml.energy/zeus/zeusd) with the right to set caps and clocks,
which answers HTTP on a Unix socket. It knows no leases: what is put back, and when, is our guard's
matter.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from typing_extensions import override

from envs.errors import DeviceError
from envs.live.devices.nvml import Nvml
from envs.live.devices.nvml_caps import NvmlCaps
from envs.live.errors import (
    DeviceLostError,
    DeviceNotFoundError,
    DevicePermissionError,
    DeviceRangeError,
)
from envs.live.http_client import authorization

SOCKET = "/run/zeusd/zeusd.sock"
SOCKET_VARIABLE, TOKEN_VARIABLE = "ZEUSD_SOCK_PATH", "ZEUSD_TOKEN"
TIMEOUT_S = 5.0
PATIENCE_S = 8.0
"""Time that a daemon which is being started again is waited for: its unit waits 5 s."""

_MAX_BYTES = 1 << 20
_CONTROL = "gpu-control"


@dataclass(kw_only=True)
class Zeusd(Nvml):
    """The NVIDIA GPUs of one server; caps and clocks are set through ``zeusd``.

    Reading needs no rights. A token, where the daemon wants one, is taken from the environment
    variable ``ZEUSD_TOKEN``; it is never recorded.

    Attributes:
        socket: Where the daemon listens; ``None`` takes ``ZEUSD_SOCK_PATH``, or the usual place.
    """

    socket: str | None = None

    @override
    def open(self, server_pid: int | None) -> None:
        super().open(server_pid)
        place = self.socket or os.environ.get(SOCKET_VARIABLE) or SOCKET
        self._nvml = _ThroughZeusd(self._nvml, Daemon(place))
        self._caps = NvmlCaps(self._nvml)

    @override
    def check_control(self) -> None:
        self._nvml.require_control([gpu.handle for gpu in self._gpus])

    @override
    def take_control(self) -> dict[str, Any]:
        self.check_control()
        return super().take_control()

    @property
    @override
    def facts(self) -> dict[str, Any]:
        return super().facts | {"zeusd": self._nvml.daemon.place}


class Daemon:
    """A running ``zeusd``.

    Args:
        place: Its Unix socket.
    """

    def __init__(self, place: str) -> None:
        self.place = place

    def discover(self) -> dict[str, Any]:
        """Returns its GPUs and what it allows.

        Raises:
            DeviceError: It is not there, or is no ``zeusd``.
        """
        answer = self._call("GET", "/discover", {}, wait=False)
        if not isinstance(answer, dict) or not {"gpus", "gpu_ids"} & set(answer):
            raise DeviceError(f"{self.place}: what answers is no zeusd")
        return answer

    def set(self, what: str, gpu: int, **values: int) -> None:
        """Sets something of a GPU, and waits until it is done.

        Raises:
            DeviceError: The daemon refuses, or is gone.
        """
        self._call("POST", f"/gpu/{what}", {"gpu_ids": gpu, **values, "block": "true"}, wait=True)

    def _call(self, method: str, path: str, query: dict[str, Any], *, wait: bool) -> Any:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                status, body = self._exchange(method, path, query)
                break
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, PermissionError):
                    raise DevicePermissionError(
                        f"{self.place}: this user may not talk to zeusd (its options "
                        "--socket-permissions, --socket-uid and --socket-gid)"
                    ) from error
                if not wait:
                    raise DeviceNotFoundError(
                        f"{self.place}: no zeusd listens there ({error}); start it as root (zeusd "
                        f"serve), or correct server.device.socket or {SOCKET_VARIABLE}"
                    ) from error
                if time.monotonic() > until:
                    raise DeviceLostError(f"{self.place}: zeusd is gone ({error})") from error
                time.sleep(0.1)
        if status != 200:
            raise self._refusal(status, path, body)
        try:
            return json.loads(body) if body else None
        except (ValueError, RecursionError) as error:
            raise DeviceError(f"{self.place}{path}: answered no JSON") from error

    def _exchange(self, method: str, path: str, query: dict[str, Any]) -> tuple[int, bytes]:
        connection = _UnixConnection(self.place)
        try:
            target = f"{path}?{urlencode(query)}" if query else path
            connection.request(method, target, headers=authorization(TOKEN_VARIABLE))
            answer = connection.getresponse()
            return answer.status, answer.read(_MAX_BYTES)
        finally:
            connection.close()

    def _refusal(self, status: int, path: str, body: bytes) -> DeviceError:
        said = body.decode(errors="replace").strip()[:500]
        where = f"{self.place}{path}: zeusd answered {status}: {said}"
        if status == 401:
            return DevicePermissionError(
                f"{where}; it wants a token of scope {_CONTROL} in {TOKEN_VARIABLE}"
            )
        if status in (403, 404):
            return DevicePermissionError(
                f"{where}; start it with the API group {_CONTROL} and the right to set caps"
            )
        return (DeviceRangeError if status == 400 else DeviceError)(where)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, place: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._place = place

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._place)
        except BaseException:
            self.sock.close()
            raise


class _ThroughZeusd:
    """NVML's bindings, of which those that need rights ask the daemon instead.

    Args:
        nvml: The bindings, initialised.
        daemon: Who sets.
    """

    def __init__(self, nvml: Any, daemon: Daemon) -> None:
        self._bindings = nvml
        self.daemon = daemon
        self._by_bus: dict[str, int] = {}
        self._known: set[int] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bindings, name)

    def require_control(self, handles: list[Any]) -> None:
        """Checks that the daemon may set all of the GPUs.

        Raises:
            DeviceError: It may not, or does not know one of them.
        """
        told = self.daemon.discover()
        groups = told.get("enabled_api_groups")
        if groups is not None and _CONTROL not in groups:
            raise DevicePermissionError(
                f"{self.daemon.place}: zeusd was started without the API group {_CONTROL}; "
                "server.control=false only looks on"
            )
        gpus = told.get("gpus") or [{"id": number} for number in told.get("gpu_ids", [])]
        self._known = {int(gpu["id"]) for gpu in gpus}
        self._by_bus = {
            _bus(gpu["pci_address"]): int(gpu["id"]) for gpu in gpus if "pci_address" in gpu
        }
        for handle in handles:
            self._number(handle)

    def _number(self, handle: Any) -> int:
        """Returns the daemon's number of a GPU, by its place on the bus.

        Daemons that do not tell places count as NVML does.
        """
        if self._known is None:  # another process puts back what was found
            self.require_control([])
        bus = _bus(self._bindings.nvmlDeviceGetPciInfo(handle).busId)
        number = int(self._by_bus.get(bus, self._bindings.nvmlDeviceGetIndex(handle)))
        if number not in (self._known or ()) or (self._by_bus and bus not in self._by_bus):
            raise DeviceNotFoundError(
                f"{self.daemon.place}: zeusd tells of no GPU {number} at {bus}; it was started "
                "where it does not see it"
            )
        return number

    def nvmlDeviceSetPowerManagementLimit(self, handle: Any, milliwatts: int) -> None:
        self.daemon.set("set_power_limit", self._number(handle), power_limit_mw=milliwatts)

    def nvmlDeviceSetGpuLockedClocks(self, handle: Any, low: int, high: int) -> None:
        self.daemon.set(
            "set_gpu_locked_clocks", self._number(handle), min_clock_mhz=low, max_clock_mhz=high
        )

    def nvmlDeviceResetGpuLockedClocks(self, handle: Any) -> None:
        self.daemon.set("reset_gpu_locked_clocks", self._number(handle))


def _bus(address: str | bytes) -> str:
    """Returns a place on the PCI bus as NVML and ``lspci`` both spell it: they differ in zeros."""
    text = address.decode() if isinstance(address, bytes) else address
    domain, _, rest = text.strip().lower().partition(":")
    return f"{int(domain, 16):x}:{rest}"
