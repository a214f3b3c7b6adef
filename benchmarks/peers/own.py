"""This project's simulator, in this process."""

from __future__ import annotations

import time

from benchmarks.peers.load import Answer, Server
from envs.factory import build_server_spec
from envs.scenario import Scenario
from envs.simulator.fleet import Fleet
from envs.telemetry import COLUMN
from envs.workloads.base import RequestChunk

_INTERVAL_S = 60.0


class _Once:
    """A stream of given requests that ends with them."""

    def __init__(self, requests: RequestChunk) -> None:
        self._requests, self._taken = requests, 0

    def take(self, count: int) -> RequestChunk:
        """Returns the next requests."""
        part = slice(self._taken, self._taken + count)
        self._taken += count
        times, prompts, outputs, _ = self._requests
        return RequestChunk(times[part], prompts[part], outputs[part])


class Own:
    """The simulator of ``envs.simulator``, compiled code loaded before the time is taken."""

    name = "pals-gym"

    def missing(self, server: Server) -> str | None:
        """Returns ``None``: it is always there."""
        return None

    def run(self, server: Server, requests: RequestChunk) -> Answer:
        """Steps a fleet of one minute by minute until all requests are served."""
        tokens = int((requests.prompt_tokens + requests.output_tokens).max())
        scenario = Scenario.of(
            model=server.model,
            gpu=server.gpu,
            server={
                "base": "simulated", "tensor_parallel": server.gpus,
                "max_num_seqs": server.max_num_seqs,
            },
            workload={"base": "poisson_gsm8k", "rate": 1.0},
        )  # fmt: skip
        server_spec = build_server_spec(scenario)
        assert tokens <= server_spec.spec.max_model_len
        fleet = Fleet([server_spec])
        fleet.begin(0, _Once(requests), None)
        fleet.advance(0.0)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        finished, longest_s = 0, 0.0
        while finished < len(requests.prompt_tokens):
            row = fleet.advance(_INTERVAL_S)[0]
            finished += int(row[COLUMN.finished])
            longest_s = max(longest_s, float(row[COLUMN.e2e_p99_s]))
        return Answer(
            finished, longest_s, time.process_time() - cpu_s, time.perf_counter() - wall_s
        )
