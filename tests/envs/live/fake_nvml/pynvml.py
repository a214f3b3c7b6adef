"""NVML without a GPU: the real Python bindings over a library of our own.

The bindings of ``nvidia-ml-py`` are executed as they are; only the functions that they would
look up in ``libnvidia-ml.so`` come from here. They work on a JSON file (``FAKE_NVML_STATE``),
so that several processes see the same GPUs, and return the error codes that NVML documents.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_HERE = str(Path(__file__).resolve().parent)
_spec = PathFinder.find_spec(
    "pynvml", [path for path in sys.path if str(Path(path or ".").resolve()) != _HERE]
)
assert _spec is not None
assert _spec.origin is not None
exec(compile(Path(_spec.origin).read_text(), _spec.origin, "exec"), globals())

OK, UNINITIALIZED, INVALID, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 0, 1, 2, 3, 4, 6
INSUFFICIENT_SIZE, DRIVER_NOT_LOADED, LOST = 7, 9, 15


def gpu(index: int, **changes: object) -> dict[str, object]:
    """Returns the state of one GPU; ``changes`` override."""
    return {
        "uuid": f"GPU-{index:08d}", "name": "NVIDIA Fake 400W", "limit": 400_000,
        "default": 400_000, "min": 100_000, "max": 400_000, "power": 250_000,
        "instant": 260_000, "energy": 1_000_000, "clock": 1200, "max_clock": 1410,
        "locked": None, "reasons": 4, "lost": False, "mig": False, "no_energy": False,
        "no_instant": False, "persistence": 1, "processes": [],
        "pci": f"00000000:{index + 1:02X}:00.0",
    } | changes  # fmt: skip


_THREADS = threading.Lock()


@contextlib.contextmanager
def changing(file: Path) -> Iterator[dict[str, Any]]:
    """The machine's state, locked while it is looked at, and written if it was changed.

    Processes that use it are killed at any moment, and fork. So it is replaced as a whole, never
    written in place, and its lock is one that ends with a process and does not pass to a child.
    """
    with _THREADS, file.with_suffix(".flock").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        before = file.read_text()
        state = json.loads(before)
        yield state
        after = json.dumps(state)
        if after != before:
            _replace(file, after)


def write_state(file: Path, **state: object) -> None:
    """Writes the machine's state: ``gpus``, ``root`` and ``driver``."""
    whole = json.dumps({"gpus": [], "root": True, "driver": True, "log": []} | state)
    with _THREADS, file.with_suffix(".flock").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        _replace(file, whole)


def read_state(file: Path) -> Any:
    """Returns the machine's state."""
    return json.loads(file.read_text())


def _replace(file: Path, text: str) -> None:
    new = file.with_suffix(f".{os.getpid()}")
    new.write_text(text)
    if file.exists() and (mode := file.stat().st_mode & 0o777) & 0o006:  # several users' test
        new.chmod(mode)
    new.replace(file)


def _machine() -> contextlib.AbstractContextManager[dict[str, Any]]:
    return changing(Path(os.environ["FAKE_NVML_STATE"]))


def _may_set(machine: dict[str, Any]) -> bool:
    """Whether the caller is root: told, or with ``caller`` as it really is."""
    root = machine["root"]
    return os.geteuid() == 0 if root == "caller" else bool(root)


def _of_gpu(function):
    """Wraps a function of one GPU: finds it, and refuses what NVML refuses."""

    def call(handle, *arguments):
        if not _Library.initialised:
            return UNINITIALIZED
        with _machine() as machine:
            state = machine["gpus"][ctypes.cast(handle, ctypes.c_void_p).value - 1]
            if state["lost"]:
                return LOST
            return function(machine, state, *arguments)

    return staticmethod(call)


def _reads(field):
    """A function that returns one number of a GPU."""

    def read(machine, state, out):
        out._obj.value = state[field]
        return OK

    return _of_gpu(read)


class _Library:
    """The functions that the bindings look up by name."""

    initialised = 0

    @staticmethod
    def nvmlInitWithFlags(_flags):
        with _machine() as machine:
            if not machine["driver"]:
                return DRIVER_NOT_LOADED
        _Library.initialised += 1
        return OK

    @staticmethod
    def nvmlShutdown():
        if _Library.initialised == 0:
            return UNINITIALIZED
        _Library.initialised -= 1
        return OK

    @staticmethod
    def nvmlErrorString(code):
        return f"error {code}".encode()

    @staticmethod
    def _find(key, wanted, out, missing):
        with _machine() as machine:
            for index, state in enumerate(machine["gpus"]):
                if wanted == (index if key is None else state[key]):
                    place = ctypes.cast(ctypes.byref(out._obj), ctypes.POINTER(ctypes.c_void_p))
                    place[0] = index + 1
                    return LOST if state["lost"] else OK
        return missing

    @staticmethod
    def nvmlDeviceGetHandleByIndex_v2(index, out):
        return _Library._find(None, index.value, out, INVALID)

    @staticmethod
    def nvmlDeviceGetHandleByUUID(uuid, out):
        return _Library._find("uuid", uuid.value.decode(), out, NOT_FOUND)

    @_of_gpu
    def nvmlDeviceGetUUID(machine, state, buffer, length):
        buffer.value = state["uuid"].encode()
        return OK

    @_of_gpu
    def nvmlDeviceGetName(machine, state, buffer, length):
        buffer.value = state["name"].encode()
        return OK

    @_of_gpu
    def nvmlDeviceGetIndex(machine, state, out):
        out._obj.value = machine["gpus"].index(state)
        return OK

    @_of_gpu
    def nvmlDeviceGetPciInfo_v3(machine, state, out):
        out._obj.busId = state["pci"].encode()
        return OK

    @_of_gpu
    def nvmlDeviceGetPowerManagementLimitConstraints(machine, state, low, high):
        low._obj.value, high._obj.value = state["min"], state["max"]
        return NOT_SUPPORTED if state["mig"] else OK

    nvmlDeviceGetPowerManagementLimit = _reads("limit")
    nvmlDeviceGetPowerManagementDefaultLimit = _reads("default")
    nvmlDeviceGetEnforcedPowerLimit = _reads("limit")
    nvmlDeviceGetPowerUsage = _reads("power")
    nvmlDeviceGetCurrentClocksEventReasons = _reads("reasons")

    @_of_gpu
    def nvmlDeviceGetClockInfo(machine, state, kind, out):
        out._obj.value = state["clock"]
        return OK

    @_of_gpu
    def nvmlDeviceGetMaxClockInfo(machine, state, kind, out):
        out._obj.value = state["max_clock"]
        return OK

    @_of_gpu
    def nvmlDeviceGetTotalEnergyConsumption(machine, state, out):
        if state["no_energy"]:
            return NOT_SUPPORTED
        out._obj.value = state["energy"]
        return OK

    @_of_gpu
    def nvmlDeviceGetFieldValues(machine, state, count, values):
        for value in values._obj:
            known = value.fieldId == 186 and not state["no_instant"]
            value.nvmlReturn = OK if known else NOT_SUPPORTED
            value.value.uiVal = state["instant"] if known else 0
        return OK

    nvmlDeviceGetPersistenceMode = _reads("persistence")

    @staticmethod
    def nvmlSystemGetDriverVersion(buffer, length):
        buffer.value = b"610.01"
        return OK

    @_of_gpu
    def nvmlDeviceGetComputeRunningProcesses_v3(machine, state, count, found):
        pids = state["processes"]
        room, count._obj.value = count._obj.value, len(pids)
        if len(pids) > room:
            return INSUFFICIENT_SIZE
        for index, pid in enumerate(pids):
            found[index].pid = pid
        return OK

    @_of_gpu
    def nvmlDeviceSetPowerManagementLimit(machine, state, limit):
        if state["mig"]:
            return NOT_SUPPORTED
        if not _may_set(machine):
            return NO_PERMISSION
        if not state["min"] <= limit.value <= state["max"]:
            return INVALID
        state["limit"] = limit.value
        machine["log"].append([state["uuid"], "limit", limit.value])
        return OK

    @_of_gpu
    def nvmlDeviceSetGpuLockedClocks(machine, state, low, high):
        if not _may_set(machine):
            return NO_PERMISSION
        if low.value > high.value or high.value > state["max_clock"]:
            return INVALID
        state["locked"] = [low.value, high.value]
        machine["log"].append([state["uuid"], "lock", high.value])
        return OK

    @_of_gpu
    def nvmlDeviceResetGpuLockedClocks(machine, state):
        if not _may_set(machine):
            return NO_PERMISSION
        state["locked"] = None
        machine["log"].append([state["uuid"], "unlock", 0])
        return OK


nvmlLib = _Library if "FAKE_NVML_STATE" in os.environ else None
