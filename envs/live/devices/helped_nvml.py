"""NVIDIA GPUs that are read by us and capped by a helper: the controller needs no rights."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from typing_extensions import override

from envs.errors import ConfigurationError, DeviceError
from envs.live.cap_helper import protocol
from envs.live.devices.base import DeviceLimits
from envs.live.devices.nvml import Nvml
from envs.live.errors import (
    DeviceBusyError,
    DeviceLostError,
    DeviceNotFoundError,
    DevicePermissionError,
    DeviceRangeError,
)

_LOG = logging.getLogger(__name__)
TIMEOUT_S = 2.0
PATIENCE_S = 5.0
"""Time that a helper which is being started again is waited for."""

_KINDS: dict[str, type[DeviceError]] = {
    protocol.RANGE: DeviceRangeError,
    protocol.BUSY: DeviceBusyError,
    protocol.STRANGER: DevicePermissionError,
}


@dataclass(kw_only=True)
class HelpedNvml(Nvml):
    """The NVIDIA GPUs of one server, capped by ``python -m envs.live.cap_helper``.

    Reading needs no rights. Caps are asked of the helper, which holds them for as long as it
    hears of us, and otherwise puts back what it found.

    Attributes:
        socket: Where the helper listens.
    """

    socket: str = protocol.SOCKET
    opens_to_restore = False  # the helper has the GPUs open

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lock_clocks:
            raise ConfigurationError("device.lock_clocks: the helper sets caps and no clocks")
        self._line: socket.socket | None = None
        self._lease: str | None = None
        self._watts: float | None = None
        self._ceiling_w = 0.0
        self._others = 0
        self._asking = threading.Lock()
        self._counting = threading.Lock()

    @property
    @override
    def limits(self) -> DeviceLimits:
        told = self._limits()
        self._ceiling_w = max(self._ceiling_w, told["ceiling_w"])
        own = super().limits
        return replace(own, cap_min_w=told["floor_w"], cap_max_w=told["ceiling_w"])

    @property
    @override
    def cap_found_w(self) -> float:
        told = self._limits()
        return min(told["found_w"], told["ceiling_w"])

    @property
    @override
    def facts(self) -> dict[str, Any]:
        return super().facts | {"helper": {"socket": self.socket} | self._limits()}

    def _limits(self) -> dict[str, float]:
        with self._asking:
            answer = self._ask({"do": protocol.LIMITS, "gpus": self.keys})
        return {name: float(answer[name]) for name in ("floor_w", "ceiling_w", "found_w")}

    @override
    def take_control(self) -> dict[str, Any]:
        self._ceiling_w = max(self._ceiling_w, self._limits()["ceiling_w"])
        self._lease = secrets.token_hex(16)
        self._renew(None)
        return {"lease": self._lease}

    @override
    def set_power_cap(self, watts: float) -> None:
        if self._lease is None:
            raise DevicePermissionError("device: take_control() comes before set_power_cap()")
        try:
            self._renew(watts)
        except DeviceRangeError:  # others may have lowered the cap while the helper was away
            ceiling_w = self._limits()["ceiling_w"]
            if not ceiling_w < watts <= self._ceiling_w:
                raise
            _LOG.warning("%g W is the most that the helper allows now", ceiling_w)
            self._renew(ceiling_w)

    @override
    def renew(self) -> None:
        if self._lease is not None:
            self._renew(None)

    def _renew(self, watts: float | None) -> None:
        """Renews the lease; a cap that is not named is the last one: a lease may have lapsed."""
        with self._asking:
            self._watts = self._watts if watts is None else watts
            answer = self._ask(
                {
                    "do": protocol.CAP,
                    "gpus": self.keys,
                    "watts": self._watts,
                    "lease": self._lease,
                }
            )
        with self._counting:
            self._others += int(answer["changes"])

    @override
    def take_changes_by_others(self) -> int:
        with self._counting:
            changes, self._others = self._others, 0
        return changes

    @override
    def restore(self, found: dict[str, Any]) -> None:
        with self._asking:
            self._lease = self._watts = None  # what is restored is not renewed
            self._ask({"do": protocol.RESTORE, "lease": found["lease"]})

    @override
    def told(self, found: dict[str, Any]) -> str:
        caps = ", ".join(self.keys) or ", ".join(self.gpus)
        return f"power caps of {caps}, which the helper found and puts back when our lease lapses"

    @override
    def close(self) -> None:
        with self._asking:
            self._hang_up()
        super().close()

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Returns the helper's answer; one that went away is looked for for some seconds.

        Raises:
            DeviceError: It refuses, or is not there.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            new = self._line is None
            try:
                answer = self._exchange(request)
                break
            except OSError as error:
                self._hang_up()
                gone = isinstance(error, (FileNotFoundError, ConnectionRefusedError))
                if gone and self._lease is None:
                    raise DeviceNotFoundError(
                        f"{self.socket}: no helper listens there; start it with the rights to set "
                        "caps (python -m envs.live.cap_helper), or correct device.socket"
                    ) from error
                if isinstance(error, PermissionError):
                    raise DevicePermissionError(
                        f"{self.socket}: the helper serves other users (its option --user)"
                    ) from error
                if time.monotonic() > until:
                    raise DeviceLostError(f"{self.socket}: the helper is gone ({error})") from error
                if new:
                    time.sleep(0.1)
        if not answer.get("ok"):
            kind = _KINDS.get(str(answer.get("kind")), DeviceError)
            raise kind(f"{self.socket}: {answer.get('message')}")
        return answer

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a line and returns the one that answers it.

        Raises:
            OSError: The connection broke, or there is none.
        """
        if self._line is None:
            line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            line.settimeout(TIMEOUT_S)
            try:
                line.connect(self.socket)
            except BaseException:
                line.close()
                raise
            self._line = line
        with contextlib.suppress(BrokenPipeError):  # why it was closed may still be told
            self._line.sendall(json.dumps(request).encode() + b"\n")
        received = b""
        while not received.endswith(b"\n"):
            if len(received) > protocol.MAX_BYTES:
                raise ConnectionError("its answer is no line")
            data = self._line.recv(protocol.MAX_BYTES)
            if not data:
                raise ConnectionError("it closed the connection")
            received += data
        try:
            told = json.loads(received.split(b"\n")[0])
        except (ValueError, RecursionError) as error:
            raise ConnectionError("its answer is no JSON") from error
        if not isinstance(told, dict):
            raise ConnectionError("its answer is no JSON object")
        return told
