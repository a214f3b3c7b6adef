"""This project's simulator, in this process."""

from __future__ import annotations

import time
from typing import Any, cast

from omegaconf import OmegaConf

from benchmarks.peers.load import Answer, Peer, Server
from envs.errors import ConfigurationError
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
        times, prompts, outputs, texts = self._requests
        shared = None if texts is None else texts[part]
        return RequestChunk(times[part], prompts[part], outputs[part], shared)


class Own(Peer):
    """The simulator of ``envs.simulator``, compiled code loaded before the time is taken.

    Args:
        settings: What its scenario has that is not the default, as in
            ``"server.prefix_caching=true server.data_parallel=2"``.
    """

    name = "pals-gym"

    def __init__(self, settings: str = "") -> None:
        self._settings = settings.split()
        self.name = ", ".join([self.name, *self._settings])

    def missing(self, server: Server) -> str | None:
        """Returns what is wrong with its settings."""
        try:
            build_server_spec(self._scenario(server))
        except ConfigurationError as error:
            return str(error)
        return None

    def _scenario(self, server: Server) -> Scenario:
        parts = {
            "model": server.model,
            "gpu": server.gpu,
            "server": {
                "base": "simulated", "tensor_parallel": server.gpus,
                "max_num_seqs": server.max_num_seqs,
            },
            "workload": {
                "base": "poisson_gsm8k", "rate": 1.0, "lengths": {"prompt": {"shared_tokens": 0}},
            },
        }  # fmt: skip
        whole = OmegaConf.merge(parts, OmegaConf.from_dotlist(self._settings))
        return Scenario.of(**cast(dict[str, Any], OmegaConf.to_container(whole)))

    def run(self, server: Server, requests: RequestChunk) -> Answer:
        """Steps a fleet of one minute by minute until all requests are served."""
        tokens = int((requests.prompt_tokens + requests.output_tokens).max())
        server_spec = build_server_spec(self._scenario(server))
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
