"""How the live tests start servers, attach to them and drive them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs import catalog
from envs.live.batch_limit import PLUGIN_DIR
from envs.live.config import VllmServerConfig
from envs.live.devices.processes import workers_of
from envs.live.devices.throttled_cpu import CGROUP_V1, ThrottledCpu
from envs.live.errors import DeviceBusyError
from envs.live.locks import Locks
from envs.live.process import Launch, VllmProcess
from envs.live.server import LiveServer
from envs.telemetry import Telemetry
from envs.workloads.base import RequestChunk, Workload

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("PALS_LIVE_PYTHON", ROOT / ".venv-live" / "bin" / "python"))
"""Interpreter with the vLLM that is tested."""
VLLM_PATH = [os.environ["PALS_LIVE_VLLM"]] if "PALS_LIVE_VLLM" in os.environ else []
"""Where vLLM's Python files lie, if not in that interpreter's environment."""
MAX_NUM_SEQS = 32


def launch(model: Path, **changes: Any) -> Launch:
    """How a tiny model is served on one core of this machine."""
    config = catalog.build("server", "vllm_cpu")
    start: Launch = config.launch
    start.model = str(model)
    start.python = str(PYTHON)
    for key, value in changes.items():
        setattr(start, key, value)
    return start


def attached(vllm: VllmProcess, **changes: Any) -> VllmServerConfig:
    """Configuration of a controller attached to the running server."""
    settings: dict[str, Any] = {
        "url": vllm.url,
        "control": True,
        "send_load": True,
        "server_pid": vllm.pid,
        "device": ThrottledCpu(),
        "max_num_seqs": MAX_NUM_SEQS,
        "capacity_tok_s": 400.0,
        "system_alpha": 1.0,
        "system_beta_w": 0.0,
        "call_timeout_s": 5.0,
    }
    return VllmServerConfig(**{**settings, **changes})


def plugin_environment() -> dict[str, str]:
    """Environment of a program that imports the plug-in and vLLM, and nothing of ours."""
    path = os.pathsep.join([*VLLM_PATH, str(PLUGIN_DIR), str(ROOT / "tests" / "live")])
    return {"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}


def requests(**changes: Any) -> Any:
    """Prompts of about 100 and outputs of about 36 tokens."""
    settings = {"prompt_scale": 0.2, "output_scale": 0.3} | changes
    base = "closed_loop" if "concurrency" in settings else "poisson_gsm8k"
    return catalog.build("workload", {"base": base, **settings})


class UniformRequests:
    """An endless sequence of requests with lengths half to one and a half times a mean."""

    def __init__(self, rng: np.random.Generator, prompt: int, output: int) -> None:
        self._rng = rng
        self._means = prompt, output

    def take(self, count: int) -> RequestChunk:
        """Returns the next requests."""
        prompts, outputs = (
            self._rng.integers(mean // 2, mean + mean // 2 + 1, size=count) for mean in self._means
        )
        return RequestChunk(np.zeros(count), prompts, outputs)


@dataclass(kw_only=True)
class UniformLengths(Workload):
    """A closed loop of requests whose lengths are uniformly distributed."""

    load: float | None = None
    prompt: int = 100
    output: int = 40
    streams: int = 8

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean length of the prompts."""
        return float(self.prompt)

    @property
    def mean_output_tokens(self) -> float:
        """Mean length of the outputs."""
        return float(self.output)

    @property
    def concurrency(self) -> int:
        """Requests in flight."""
        return self.streams

    def stream(self, rng: np.random.Generator, rate_per_s: float) -> UniformRequests:
        """Starts the sequence."""
        return UniformRequests(rng, self.prompt, self.output)


@contextmanager
def live(config: Any, workload: Any) -> Iterator[LiveServer]:
    """A live server, closed at the end."""
    server = LiveServer(config, workload)
    try:
        yield server
    finally:
        server.close()


def run(server: LiveServer, seconds: float, interval_s: float = 0.5) -> list[Telemetry]:
    """Advances without a decision."""
    return [server.advance(interval_s) for _ in range(round(seconds / interval_s))]


def total(rows: list[Telemetry], name: str) -> float:
    """Sum of a field."""
    return float(sum(getattr(row, name) for row in rows))


def rate(rows: list[Telemetry], name: str = "output_tokens") -> float:
    """Sum of a field, per second."""
    return total(rows, name) / total(rows, "duration_s")


def wait_for(condition: Callable[[], Any], timeout_s: float) -> float:
    """Waits until a condition holds and returns how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, "did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - began


def state(pid: int) -> str:
    """State of a process as the kernel names it, such as ``T`` for stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def groups(worker: int) -> list[Path]:
    """Control groups made for one worker; other controllers on this machine have theirs."""
    return list(Path(CGROUP_V1).glob(f"pals-gym-{worker}*")) if Path(CGROUP_V1).is_dir() else []


def is_free(vllm: VllmProcess) -> bool:
    """Whether nobody controls the server: a guard does until it has put everything back."""
    try:
        Locks([*(f"cpu-worker-{pid}" for pid in workers_of(vllm.pid)), vllm.url]).close()
    except DeviceBusyError:
        return False
    return True
