"""Requests to come, drawn from what is believed about arrivals and lengths."""

from __future__ import annotations

import numpy as np

from baselines.twin.arrivals import ArrivalBelief
from baselines.twin.lengths import LengthBelief
from baselines.twin.plans import FloatArray
from envs.workloads.base import RequestChunk


def drawn_requests(
    arrivals: ArrivalBelief,
    prompts: LengthBelief,
    outputs: LengthBelief,
    *,
    samples: int,
    horizon_s: float,
    interval_s: float,
    in_flight: int | None,
    rng: np.random.Generator,
) -> list[RequestChunk]:
    """Draws the requests that come within a horizon, for each sample; times from now.

    Args:
        arrivals: Beliefs about the arrival rate.
        prompts: Beliefs about prompt lengths.
        outputs: Beliefs about output lengths.
        samples: How many futures are drawn.
        horizon_s: How far, in seconds.
        interval_s: Length of a control interval in seconds.
        in_flight: Requests in flight in a closed loop, where requests come when others finish;
            ``None`` for open arrivals.
        rng: Source of the draws.
    """
    edges_s: FloatArray = np.arange(0.0, horizon_s, interval_s)
    rates = arrivals.draw(samples, edges_s, rng)
    chunks = []
    for sample in range(samples):
        counts = rng.poisson(rates[sample] * interval_s)
        if in_flight is not None:  # as many as can be asked for
            counts = np.full(len(edges_s), 8 + in_flight // 4)
        times_s = np.repeat(edges_s, counts) + rng.random(counts.sum()) * interval_s
        chunks.append(
            RequestChunk(
                np.sort(times_s),
                prompts.draw(rng.random(len(times_s))).astype(np.int64),
                outputs.draw(rng.random(len(times_s))).astype(np.int64),
            )
        )
    return chunks
