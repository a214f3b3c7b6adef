"""NVIDIA GPUs as DCGM's host engine tells of them: for reading, also where NVML is out of reach.

``dcgmi dmon`` prints a row per GPU and sample for as long as it runs; a thread reads them. DCGM can
set caps, too, but keeps setting its own again; so caps are left to other devices.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from typing_extensions import override

from envs.errors import ConfigurationError
from envs.fields import Checked, Range
from envs.live.devices.base import DeviceLimits, PowerDevice, Reading
from envs.live.errors import DeviceLostError, DeviceNotFoundError, DeviceNotSupportedError
from envs.telemetry import MEASURED

_PROGRAM = "dcgmi"
PATIENCE_S = 10.0
"""Longest wait for a sample."""

_FIELDS = {
    "power_w": 155, "energy_mj": 156, "sm_clock_mhz": 100, "reasons": 112, "cap_w": 164,
    "cap_min_w": 161, "cap_max_w": 162, "limit_w": 160, "clock_max_mhz": 113,
}  # fmt: skip
"""DCGM's numbers of the fields (``dcgmi dmon --list``), in the order of the columns."""

_NEEDED = ("power_w", "sm_clock_mhz")
_CAP_BINDS = 0x4
"""Bit of the reasons for a clock: the power cap holds it down."""

_Row = dict[str, float | None]


@dataclass(kw_only=True)
class Dcgm(Checked, PowerDevice):
    """The NVIDIA GPUs of one server, read through DCGM; it sets nothing.

    Attributes:
        gpus: DCGM's numbers of them (``dcgmi discovery -l``).
        host: The host engine, as ``dcgmi --host`` takes it; ``None`` for this machine's.
        period_ms: Time between two samples.
    """

    config_key: ClassVar[str] = "device"

    gpus: list[str] = field(default_factory=lambda: ["0"])
    host: str | None = None
    period_ms: Annotated[int, Range(least=10, most=10_000)] = 100
    opens_to_restore = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gpus = [str(gpu) for gpu in self.gpus]
        wrong = [gpu for gpu in self.gpus if not gpu.isdecimal()]
        if wrong or not self.gpus or len(set(self.gpus)) != len(self.gpus):
            raise ConfigurationError(
                "device.gpus: name GPUs by DCGM's numbers (dcgmi discovery -l), each once"
            )
        self.power_source = MEASURED
        self._process: subprocess.Popen[str] | None = None
        self._sampled = threading.Condition()
        self._samples = self._given = 0
        self._newest: tuple[float, dict[str, _Row]] = (0.0, {})
        self._time_s, self._rows = self._newest
        self._said: deque[str] = deque(maxlen=5)
        self._ended = False

    @override
    def open(self, server_pid: int | None) -> None:
        command = [_PROGRAM, "dmon", "-e", ",".join(map(str, _FIELDS.values())),
                   "-i", ",".join(self.gpus), "-d", str(self.period_ms)]  # fmt: skip
        if self.host is not None:
            command += ["--host", self.host]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # Ctrl-C is for us
            )
        except OSError as error:
            raise DeviceNotFoundError(
                f"dcgm: cannot start {_PROGRAM} ({error.strerror}); install DCGM, or put the "
                "program's folder into PATH"
            ) from error
        self._ended = False
        threading.Thread(
            target=self._listen, args=(self._process,), name="dcgmi", daemon=True
        ).start()
        try:
            self._fresh()
        except BaseException:
            self.close()
            raise

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Takes samples from what the program prints; runs in a thread of its own."""
        assert process.stdout is not None
        rows: dict[str, _Row] = {}
        for line in process.stdout:
            gpu, row = _parsed(line)
            if row is None:
                with self._sampled:
                    self._said.append(line.strip())
                continue
            if gpu in rows:  # the sample before lacked a GPU
                rows = {}
            rows[gpu] = row
            if set(self.gpus) <= set(rows):
                whole = all(rows[own][name] is not None for own in self.gpus for name in _NEEDED)
                if whole:  # what is watched from now on is not there at first
                    with self._sampled:
                        self._newest = (time.monotonic(), rows)
                        self._samples += 1
                        self._sampled.notify_all()
                rows = {}
        with self._sampled:
            self._ended = True
            self._sampled.notify_all()

    def _fresh(self) -> None:
        """Takes a sample that was not taken before.

        Raises:
            DeviceLostError: None came in time.
        """
        with self._sampled:
            came = self._sampled.wait_for(
                lambda: self._samples > self._given or self._ended, PATIENCE_S
            )
            if self._samples > self._given:
                self._given = self._samples
                self._time_s, self._rows = self._newest
                return
            said = "; ".join(filter(None, self._said)) or "nothing"
        what = "ended" if came else f"told no power and clock of all GPUs within {PATIENCE_S:g} s"
        raise DeviceLostError(
            f"{_PROGRAM} dmon {what}, and said: {said[:600]} (is nv-hostengine running, and "
            f"are {', '.join(self.gpus)} GPUs that it knows?)"
        )

    @property
    @override
    def num_gpus(self) -> int:
        return len(self.gpus)

    @property
    @override
    def keys(self) -> list[str]:
        return [f"dcgm {self.host or 'localhost'} GPU {gpu}" for gpu in self.gpus]

    def _values(self, name: str) -> list[float]:
        """Returns what the last sample tells of all GPUs; empty unless it does."""
        values = [self._rows[gpu][name] for gpu in self.gpus]
        return [value for value in values if value is not None] if None not in values else []

    @property
    @override
    def limits(self) -> DeviceLimits:
        highest = self._values("cap_max_w") or self._caps()
        return DeviceLimits(
            cap_min_w=max(self._values("cap_min_w") or [0.0]),
            cap_max_w=min(highest),
            clock_min_mhz=0.0,
            clock_max_mhz=min(self._values("clock_max_mhz") or self._values("sm_clock_mhz")),
        )

    def _caps(self) -> list[float]:
        caps = self._values("cap_w") or self._values("limit_w") or self._values("cap_max_w")
        if not caps:
            raise DeviceNotSupportedError("dcgm: the host engine tells no power limit of the GPUs")
        return caps

    @property
    @override
    def cap_found_w(self) -> float:
        return min(self._caps())

    @property
    @override
    def facts(self) -> dict[str, Any]:
        return {
            "host_engine": self.host or "localhost",
            "period_s": self.period_ms * 1e-3,
            "energy_counter": bool(self._values("energy_mj")),
        }

    @override
    def read(self) -> Reading:
        self._fresh()
        reasons = self._values("reasons") or [0.0] * len(self.gpus)
        energy = self._values("energy_mj")
        return Reading(
            time_s=self._time_s,
            power_w=tuple(self._values("power_w")),
            energy_j=tuple(value * 1e-3 for value in energy) if energy else None,
            sm_clock_mhz=tuple(self._values("sm_clock_mhz")),
            cap_w=tuple(self._caps()),
            cap_bound_s=None,
            cap_binds=tuple(bool(int(value) & _CAP_BINDS) for value in reasons),
        )

    @override
    def check_control(self) -> None:
        raise _only_reads()

    @override
    def set_power_cap(self, watts: float) -> None:
        raise _only_reads()

    @override
    def lock_clock(self, mhz: float | None) -> None:
        if mhz is not None:
            raise _only_reads()

    @override
    def take_control(self) -> dict[str, Any]:
        raise _only_reads()

    @override
    def restore(self, found: dict[str, Any]) -> None:
        pass

    @override
    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2.0)
            process.kill()
            process.wait()


def _only_reads() -> DeviceNotSupportedError:
    return DeviceNotSupportedError(
        "device=dcgm only reads: set server.control=false, or take device=nvml, helper or zeusd"
    )


def _parsed(line: str) -> tuple[str, _Row | None]:
    """Returns the GPU and the values of a row; no values for any other line."""
    words = line.split()
    if len(words) != 2 + len(_FIELDS) or words[0] != "GPU":
        return "", None
    try:
        values = [None if word == "N/A" else float(word) for word in words[2:]]
    except ValueError:
        return "", None
    return words[1], dict(zip(_FIELDS, values, strict=True))
