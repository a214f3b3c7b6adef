"""Looks at Linux processes through ``/proc``."""

from __future__ import annotations

import os
import time
from pathlib import Path

from envs.live.errors import DeviceLostError, DeviceNotFoundError

WORKER_TITLE = "VLLM::Worker"
ENGINE_TITLE = "VLLM::EngineCore"
_TITLED_WITHIN_S = 1.0


def start_ticks(pid: int) -> int | None:
    """Returns when a process started (clock ticks since boot), or ``None`` if it is gone.

    Process numbers are used again; number and start together name one process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def title(pid: int) -> str:
    """Returns the command line of a process, blanks between the words."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def descendants(pid: int) -> list[int]:
    """Returns all children of a process and theirs, the nearest first."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def workers_of(server_pid: int) -> list[int]:
    """Returns the processes of a vLLM server that compute.

    These are its workers; where vLLM runs the model inside of the engine core, the core. A child
    gets its title a moment after it is started, so that none at first sight is looked for again.

    Raises:
        DeviceNotFoundError: The process has no such children.
    """
    until = time.monotonic() + _TITLED_WITHIN_S
    while True:
        below = descendants(server_pid)
        for wanted in (WORKER_TITLE, ENGINE_TITLE):
            found = [pid for pid in below if title(pid).startswith(wanted)]
            if found:
                return found
        if time.monotonic() > until:
            break
        time.sleep(0.02)
    raise DeviceNotFoundError(
        f"process {server_pid} has no child called {WORKER_TITLE} or {ENGINE_TITLE}; "
        "set server.server_pid to the process of the vLLM API server"
    )


class CpuTime:
    """Time that some processes spent on the CPU, over all their threads.

    Args:
        pids: The processes.
    """

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._threads: dict[str, int] = {}

    def seconds(self) -> float:
        """Returns the CPU time so far; threads that ended keep counting.

        Raises:
            DeviceLostError: One of the processes ended.
        """
        for pid in self._pids:
            try:
                threads = os.listdir(f"/proc/{pid}/task")
            except FileNotFoundError as error:
                raise DeviceLostError(f"process {pid} ended") from error
            for thread in threads:
                try:
                    text = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                self._threads[thread] = int(text.split()[0])
        return sum(self._threads.values()) * 1e-9
