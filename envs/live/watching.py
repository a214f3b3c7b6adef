"""Watching a server's own users: what takes the workload's place, and what is learnt of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from envs.live.config import VllmServerConfig
from envs.live.metrics import Snapshot
from envs.workloads.base import Workload
from envs.workloads.external import External

_LOG = logging.getLogger(__name__)
LEARNING_S = 10.0
"""How long a server is watched whose capacity nobody names."""


def watched(workload: Workload) -> External:
    """Returns the users of the server, expected to be like a workload's requests."""
    if isinstance(workload, External):
        return workload
    rate = workload.rate if workload.rate is not None else workload.own_rate_per_s
    load = workload.load
    if rate is None and load is None:  # a closed loop, which keeps a server full
        load = 1.0
    return External(
        load=load,
        rate=rate,
        expected_prompt_tokens=workload.mean_prompt_tokens,
        expected_output_tokens=workload.mean_output_tokens,
    )


def learnt_capacity(
    config: VllmServerConfig, max_num_seqs: int, read: Callable[[], Snapshot]
) -> float:
    """Returns a scale for observations of a server that is only watched, in output tokens/s.

    Nothing is decided for such a server, so it need not be profiled first. It is watched for
    some seconds; its throughput then counts for as many requests as ran meanwhile, and the scale
    is what a full batch would deliver at that rate a request, or 1 token/s a place if none ran.

    Args:
        config: The server.
        max_num_seqs: Its batch limit.
        read: Reads its metrics.
    """
    before, began = read(), time.monotonic()
    running = []
    while time.monotonic() - began < LEARNING_S:
        time.sleep(min(0.5, LEARNING_S / 4))
        now = read()
        running.append(now.gauges["running"])
    tokens = now.since(before).counters["output_tokens"]
    mean = sum(running) / len(running)
    places = max_num_seqs * config.data_parallel
    speed = tokens / (time.monotonic() - began)
    scale = max(speed * places / mean if mean > 0 else 0.0, float(places))
    _LOG.warning(
        "server.capacity_tok_s: not known; observations are scaled by %.0f tokens/s, from %.0f s "
        "of watching (%.0f tokens/s with %.1f running). Profile the server before controlling it",
        scale, LEARNING_S, speed, mean,
    )  # fmt: skip
    return scale
