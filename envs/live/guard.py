"""A small process that puts everything back when its controller is gone.

The controller may end in ways it cannot handle (SIGKILL, out of memory). The guard is started
before the first knob is touched, in a session of its own and as nobody's child, and waits at
the other end of a pipe: when the pipe closes without a farewell, it restores. It also holds the
locks, so that nobody else takes the device before that is done.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from envs.errors import DeviceError, PalsError, ServerError
from envs.live.devices.processes import start_ticks
from envs.live.errors import ActuationError
from envs.live.http_client import HttpClient
from envs.live.locks import tidy

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30.0
POLL_S = 0.2
PATIENCE_S = 3.0
RETRY_S = 120.0
CALL_TIMEOUT_S = 2.0
FAREWELL = "released"
READY = "ready"
Plan = dict[str, Any]
"""What to restore: ``device`` (class, configuration, settings found), ``batch_limit`` (address,
headers, holder and instance of a lease) or ``runtime_config`` (address, headers, instance, the
limit found and those that we set), and ``server`` (a process of ours to end)."""


class Guard:
    """The controller's side of the guard.

    Attributes:
        holds: The locks' file descriptors.

    Args:
        plan: What to restore.
        locks: File descriptors of the locks, which the guard holds too.

    Raises:
        ActuationError: The guard did not start; then nothing may be actuated.
    """

    def __init__(self, plan: Plan, locks: list[int]) -> None:
        self.holds = list(locks)
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # What ends this process may end its children with it (Ray does), so the child that
        # is started here starts the guard in turn and is gone.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "envs.live.guard", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=locks,
            env=os.environ | {"PYTHONPATH": path},
        )
        try:
            self.update(plan)
            self.pid = self._started()
        except BaseException:  # also a signal that ends us: we put back ourselves, then
            # The guard shares the group of the child that started it, whether that is gone or not.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            raise
        finally:
            self._process.wait()
        """The guard's process."""
        try:
            self._handle: int | None = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._handle = None

    def _started(self) -> int:
        """Waits until the guard watches; returns its process."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT_S)
        answer = self._process.stdout.readline().strip() if ready else "no answer"
        word, _, number = answer.partition(" ")
        if word != READY:
            raise ActuationError(f"the guard process did not start ({answer}); nothing was changed")
        return int(number)

    @property
    def alive(self) -> bool:
        """Whether the guard still watches."""
        return not self._ended_within(0.0)

    def _ended_within(self, seconds: float) -> bool:
        """Waits for the guard's end; returns whether it came."""
        if self._handle is not None and select.select([self._handle], [], [], seconds)[0]:
            os.close(self._handle)
            self._handle = None
        return self._handle is None

    def update(self, plan: Plan) -> None:
        """Replaces the plan."""
        self._send(json.dumps(plan))

    def release(self) -> None:
        """Tells the guard that everything was put back, and ends it."""
        self._send(FAREWELL)
        self._finish(START_TIMEOUT_S)

    def restore(self) -> bool:
        """Lets the guard put everything back; it goes on trying when we are gone.

        Returns:
            Whether it has done so already.
        """
        self._finish(PATIENCE_S)
        return not self.alive

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _finish(self, patience_s: float) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._ended_within(patience_s)


def restore(plan: Plan, device: Any = None) -> list[str]:
    """Puts back what a plan names, as much of it as possible.

    Args:
        plan: What to restore.
        device: An open device; ``None`` opens one as the plan says.

    Returns:
        What could not be put back, one message each: its key, whose it is, the value found, why.
    """
    problems = []
    if spec := plan.get("device"):
        try:
            device = device or open_device(spec)
            device.restore(spec["found"])
        except (DeviceError, OSError) as error:
            what = json.dumps(spec["found"]) if device is None else device.told(spec["found"])
            problems.append(f"server.device, {what}: {error}")
    # A server that ends needs no limit, and one of ours is ended here.
    if plan.get("server"):
        from envs.live.process import end_process

        end_process(plan["server"]["pid"], plan["server"]["start_ticks"])
        return problems
    try:
        if spec := plan.get("batch_limit"):
            from envs.live.batch_limit import BatchLimit

            BatchLimit(_client(spec), spec["owner"], spec["instance"]).release()
        if spec := plan.get("runtime_config"):
            from envs.live.runtime_config import RuntimeConfig

            RuntimeConfig(_client(spec), spec["instance"], spec["found"], spec["ours"]).release()
    except ServerError as error:
        assert spec is not None
        problems.append(
            f"server.max_num_seqs, batch limit of {spec['url']}, found {spec.get('found')}: {error}"
        )
    return problems


def _client(spec: dict[str, Any]) -> HttpClient:
    return HttpClient(spec["url"], spec["headers"], CALL_TIMEOUT_S)


def open_device(spec: dict[str, Any]) -> Any:
    """Builds and opens the device that a plan describes."""
    from envs import catalog

    device = catalog.buildable("device", spec["class"])(**spec["config"])
    if device.opens_to_restore:
        device.open(None)
    return device


def main() -> int:
    """Waits for the controller to say farewell or to end."""
    if os.fork():  # the guard is nobody's child, see above
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    lines = _lines(int(sys.argv[1]))
    first = next(lines, None)
    if first is None:  # the controller ended before it had a plan
        return 0
    plan: Plan = json.loads(first)
    with contextlib.suppress(OSError):  # restoring must not wait for a busy machine
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    device = None
    try:
        if plan.get("device"):
            device = open_device(plan["device"])
    except PalsError as error:
        _answer(str(error))
        return 1

    def put_back(*_: Any) -> list[str]:
        return restore(plan, device)

    # The machine goes down: put back now, and again if the controller goes on until its end.
    signal.signal(signal.SIGTERM, put_back)
    _answer(f"{READY} {os.getpid()}")
    for line in lines:
        if line == FAREWELL:
            return 0
        plan = json.loads(line)
    failed = _put_back_patiently(put_back)
    os.closerange(3, 1024)  # the locks among them
    tidy()
    return failed


def _put_back_patiently(put_back: Callable[[], list[str]]) -> int:
    """Puts back; a server that hangs may come round, and must not keep our limit then."""
    end = time.monotonic() + RETRY_S
    while problems := put_back():
        if time.monotonic() > end:
            sys.stderr.write(f"guard: could not restore: {'; '.join(problems)}\n")
            return 1
        time.sleep(1.0)
    return 0


def _answer(line: str) -> None:
    """Tells the controller, which may have ended meanwhile; that is what the guard is for."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{line}\n".encode())


def _lines(controller: int) -> Iterator[str]:
    """Yields the controller's lines until it ends.

    The pipe's end tells; its process too, should a forked child hold the pipe open.
    """
    began, received = start_ticks(controller), b""
    while True:
        *lines, received = received.split(b"\n")
        yield from (line.decode() for line in lines)
        if select.select([0], [], [], POLL_S)[0]:
            data = os.read(0, 65536)
            if not data:
                return
            received += data
        elif start_ticks(controller) != began:
            return


if __name__ == "__main__":
    sys.exit(main())
