"""A fake vLLM server as a real process, and fake NVIDIA GPUs, for tests of the live server.

Processes and threads get on only when the machine lets them. So a test waits for what it caused,
for as long as it takes up to ``PATIENCE_S``, and never asserts what happens within some seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from envs import catalog
from envs.knobs import Knobs
from envs.live.config import VllmServerConfig
from envs.live.devices.processes import descendants
from envs.live.devices.throttled_cpu import ThrottledCpu
from envs.live.http_client import HttpClient
from envs.live.process import Launch, end_process
from envs.live.server import LiveServer
from envs.telemetry import Telemetry

HERE = Path(__file__).resolve().parent
FAKE_VLLM = HERE / "fake_vllm"
FAKE_NVML = HERE / "fake_nvml"
PATIENCE_S = 60.0
"""Longest wait for what happens within a second on an idle machine."""


class NotReadyError(Exception):
    """A fake server ended while it started."""


class FakeVllm:
    """A fake vLLM server that the tests attach to."""

    def __init__(self, port: int, *arguments: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self._arguments = arguments
        self.client = HttpClient(self.url, {}, PATIENCE_S)
        self.start()

    @classmethod
    def anywhere(cls, *arguments: str) -> Self:
        """A server at a free port; another program may take a port before we do."""
        for _ in range(4):
            with contextlib.suppress(NotReadyError):
                return cls(free_port(), *arguments)
        return cls(free_port(), *arguments)

    def start(self) -> None:
        module = "vllm.entrypoints.openai.api_server"
        command = [sys.executable, "-m", module, "--port", str(self.port), *self._arguments]
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(FAKE_VLLM)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        if "ready" not in self.process.stdout.readline():
            self.process.wait()
            raise NotReadyError(f"the fake server ended at port {self.port}")

    def fault(self, **faults: Any) -> None:
        """Makes the server fail from now on; nothing makes it well again."""
        assert self.client.call("POST", "/fault", faults)[0] == 200

    @property
    def worker(self) -> int:
        return descendants(self.process.pid)[0]

    def limit(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get_json("/pals/batch_limit")
        return answer

    def stop(self) -> None:
        end_process(self.process.pid, None, patience_s=0.5)
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def small_workload(**changes: Any) -> Any:
    """Short requests, a few each second."""
    settings = {"rate": 12.0, "prompt_scale": 0.05, "output_scale": 0.08} | changes
    return catalog.build("workload", {"base": "poisson_gsm8k", **settings})


def attach(server: FakeVllm, **changes: Any) -> VllmServerConfig:
    """Returns the configuration of a controller attached to a fake server."""
    settings: dict[str, Any] = {
        "url": server.url,
        "control": True,
        "send_load": True,
        "server_pid": server.process.pid,
        "device": ThrottledCpu(mechanism="signals", use_rapl=False),
        "max_num_seqs": 8,
        "capacity_tok_s": 300.0,
        "system_alpha": 1.0,
        "system_beta_w": 10.0,
        "call_timeout_s": PATIENCE_S,
        "recovery_timeout_s": PATIENCE_S,
        "max_client_lag_s": PATIENCE_S,
    }
    return VllmServerConfig(**{**settings, **changes})


def launch(**changes: Any) -> VllmServerConfig:
    """Returns the configuration of a controller that launches a fake server."""
    arguments = changes.pop("arguments", [])
    start = Launch(
        model="fake",
        python=sys.executable,
        arguments=arguments,
        environment={"PYTHONPATH": str(FAKE_VLLM)},
        startup_timeout_s=2 * PATIENCE_S,
    )
    settings: dict[str, Any] = {
        "launch": start,
        "device": ThrottledCpu(mechanism="signals", use_rapl=False),
        "max_num_seqs": 8,
        "capacity_tok_s": 300.0,
        "call_timeout_s": PATIENCE_S,
        "max_client_lag_s": PATIENCE_S,
    }
    return VllmServerConfig(**{**settings, **changes})


class FakeGpus:
    """Fake GPUs, seen through the real Python bindings of NVML."""

    def __init__(self, module: ModuleType, file: Path) -> None:
        self.module = module
        self.file = file

    def set(self, *gpus: dict[str, Any], **state: Any) -> None:
        """Sets the machine's state; ``gpus`` are changes to ordinary ones."""
        built = [self.module.gpu(index, **changes) for index, changes in enumerate(gpus)]
        self.module.write_state(self.file, gpus=built, **state)

    def change(self, index: int, **changes: Any) -> None:
        with self.module.changing(self.file) as state:
            state["gpus"][index] |= changes

    @property
    def state(self) -> Any:
        return self.module.read_state(self.file)

    @property
    def limits_w(self) -> list[float]:
        return [gpu["limit"] * 1e-3 for gpu in self.state["gpus"]]


def wait_for(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> float:
    """Waits until a condition holds and returns how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, "did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - began


@contextmanager
def live(config: Any, workload: Any = None) -> Iterator[LiveServer]:
    """A live server, closed at the end."""
    server = LiveServer(config, workload or small_workload())
    try:
        yield server
    finally:
        server.close()


def advance_until(
    server: LiveServer, done: Callable[[list[Telemetry]], object], interval_s: float = 0.25
) -> list[Telemetry]:
    """Advances until a condition on the intervals so far holds, and returns them."""
    rows: list[Telemetry] = []
    end = time.monotonic() + PATIENCE_S
    while not rows or not done(rows):
        assert time.monotonic() < end, f"did not happen in time; the last interval: {rows[-1:]}"
        rows.append(server.advance(interval_s))
    return rows


def act(server: LiveServer, knobs: Knobs) -> Telemetry:
    """Applies knobs, waits until they are set, and returns the interval that follows."""
    server.apply(knobs)
    assert server._session.actuator.wait(PATIENCE_S)
    return server.advance(0.25)


def recover(server: LiveServer) -> Telemetry:
    """Advances until a recovery is recorded."""
    return advance_until(server, lambda _: server.extras["recoveries"])[-1]


def nvml_stand_in() -> ThrottledCpu:
    """A device that does not follow the server's process: one that belongs to the tests."""
    device = ThrottledCpu(mechanism="signals", use_rapl=False)
    device.follows_process = False
    device.open = lambda pid: ThrottledCpu.open(device, _keeper())  # type: ignore[method-assign]
    return device


def _keeper() -> int:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(['VLLM::Worker', '-c', 'import time; time.sleep(600)'],"
        " executable=sys.executable)\nprint(flush=True)\ntime.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    _KEEPERS.append(process)
    return process.pid


_KEEPERS: list[Any] = []


def end_keepers() -> None:
    """Ends the processes behind :func:`nvml_stand_in`."""
    while _KEEPERS:
        process = _KEEPERS.pop()
        for pid in [*descendants(process.pid), process.pid]:
            os.kill(pid, signal.SIGKILL)
        process.wait()


def run(server: LiveServer, seconds: float, interval_s: float = 0.25) -> list[Telemetry]:
    """Advances without a decision."""
    return [server.advance(interval_s) for _ in range(round(seconds / interval_s))]


def total(rows: list[Telemetry], name: str) -> float:
    """Sum of a field."""
    return float(sum(getattr(row, name) for row in rows))
