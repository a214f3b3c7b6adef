"""Listens on a Unix socket, checks who calls, and hands requests on."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import stat
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

from envs.errors import ConfigurationError
from envs.live.cap_helper import protocol
from envs.live.cap_helper.leases import Leases
from envs.live.cap_helper.protocol import BAD, STRANGER, Refused, Request

_LOG = logging.getLogger(__name__)
MAX_CONNECTIONS = 16
SILENT_S = 60.0
"""A connection that holds nothing and says nothing is closed after this time."""

TICK_S = 0.5
_STRANGER_S = 0.1
_CREDENTIALS = struct.Struct("3i")


@dataclass
class _Client:
    """One connection.

    Attributes:
        stream: Its socket.
        who: Process and user at the other end, as the kernel tells them.
        heard_s: When it last said something.
        received: What it sent and what is no whole line yet.
    """

    stream: socket.socket
    who: str
    heard_s: float
    received: bytes = field(default=b"")


class CapHelper:
    """Serves clients until it is stopped, one after the other, in one thread.

    Args:
        path: Where the socket is made.
        users: Numbers of the users that may call; all others are turned away.
        leases: What is handed out.

    Raises:
        ConfigurationError: Another helper listens there, or the path cannot be used.
    """

    def __init__(self, path: Path, users: frozenset[int], leases: Leases) -> None:
        self._path = path
        self._users = users
        self._leases = leases
        self._clients: dict[int, _Client] = {}
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        self._listener = _listening(path, users)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def stop(self) -> None:
        """Ends :meth:`run` within half a second; safe in a signal handler."""
        self._stopped = True

    def run(self) -> None:
        """Serves; puts everything back before it returns."""
        try:
            while not self._stopped:
                for key, _ in self._selector.select(TICK_S):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif (client := self._clients.get(key.fd)) is not None:
                        self._serve(client)
                self._leases.tick()
                for number, client in list(self._clients.items()):
                    silent = time.monotonic() - client.heard_s > SILENT_S
                    if silent and not self._leases.held_by(number):
                        self._drop(client)
        finally:
            self._leases.close()
            self._listener.close()
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _accept(self) -> None:
        try:
            stream, _ = self._listener.accept()
        except OSError:
            return
        stream.setblocking(False)
        raw = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(raw)
        client = _Client(stream, f"process {pid} of user {uid}", time.monotonic())
        if uid not in self._users:
            _LOG.warning("%s is turned away", client.who)
            self._turn_away(client, Refused(STRANGER, f"user {uid} may not set caps"))
        elif len(self._clients) >= MAX_CONNECTIONS:
            self._turn_away(client, Refused(BAD, "too many connections"))
        else:
            self._clients[stream.fileno()] = client
            self._selector.register(stream, selectors.EVENT_READ)

    def _turn_away(self, client: _Client, why: Refused) -> None:
        """Says why and closes; what was sent is read first, or the answer would be lost."""
        client.stream.settimeout(_STRANGER_S)
        with contextlib.suppress(OSError):
            client.stream.recv(protocol.MAX_BYTES)
        self._say(client, protocol.refusal(why))
        client.stream.close()

    def _serve(self, client: _Client) -> None:
        """Reads what a client sent and answers the lines that are whole."""
        try:
            data = client.stream.recv(protocol.MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, client.received = (client.received + data).split(b"\n")
        client.heard_s = time.monotonic()
        for line in lines:
            if not self._say(client, self._answer(client, line)):
                data = b""
        if len(client.received) > protocol.MAX_BYTES:
            too_long = Refused(BAD, f"a line is longer than {protocol.MAX_BYTES} bytes")
            self._say(client, protocol.refusal(too_long))
            data = b""
        if not data:
            self._drop(client)

    def _answer(self, client: _Client, line: bytes) -> bytes:
        try:
            return protocol.answer(**self._done(client, protocol.parsed(line)))
        except Refused as problem:
            _LOG.warning("%s: refused: %s", client.who, problem)
            return protocol.refusal(problem)

    def _done(self, client: _Client, request: Request) -> dict[str, object]:
        if request.do == protocol.LIMITS:
            return dict(self._leases.limits(request.gpus))
        if request.do == protocol.RESTORE:
            self._leases.restore(request.lease)
            return {}
        return self._leases.cap(
            request.gpus, request.watts, request.lease, client.who, client.stream.fileno()
        )

    def _say(self, client: _Client, line: bytes) -> bool:
        """Sends an answer; one that does not take it is not waited for."""
        try:
            return client.stream.send(line) == len(line)
        except OSError:
            return False

    def _drop(self, client: _Client) -> None:
        number = client.stream.fileno()
        self._clients.pop(number, None)
        self._selector.unregister(client.stream)
        client.stream.close()
        self._leases.connection_closed(number)


def _listening(path: Path, users: frozenset[int]) -> socket.socket:
    """Makes the socket, open to its user alone where there is only one."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigurationError(f"--socket: {path} is there and is no socket")
        if _is_listening(path):
            raise ConfigurationError(f"--socket: another helper listens at {path}")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        others = users - {0}
        if len(others) == 1:
            os.chown(path, next(iter(others)), -1)
        elif others:
            path.chmod(0o666)  # the kernel tells who calls, and that is what counts
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"--socket: cannot listen at {path} ({error.strerror})") from error
    finally:
        os.umask(before)
    listener.listen(MAX_CONNECTIONS)
    listener.setblocking(False)
    return listener


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
