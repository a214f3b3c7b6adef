"""Lengths of requests as a vLLM server has counted them: what to expect of others' traffic."""

from __future__ import annotations

import math

from envs.errors import ServerError
from envs.live.config import VllmServerConfig
from envs.live.histogram import Histogram
from envs.live.http_client import HttpClient
from envs.live.metrics import fetch
from envs.workloads.base import Workload
from envs.workloads.external import External
from envs.workloads.lengths import Lengths, Quantiles
from envs.workloads.poisson import Poisson

_FEWEST = 50
"""Requests from which on their lengths say more than the means that are configured."""
_TAIL = 1.5
"""Longest length beyond the last finite bound, as a multiple of it."""


def counted(workload: External, config: VllmServerConfig) -> Workload:
    """Returns a workload with the lengths that the server has counted since it was started.

    Args:
        workload: What is expected otherwise: of a server that cannot be asked, or has served
            fewer than 50 requests.
        config: The server.
    """
    if config.url is None:
        return workload
    client = HttpClient.of(config, config.url)
    try:
        histograms = fetch(client).histograms
    except ServerError:
        return workload
    prompts, outputs = (histograms[name] for name in ("prompt_length", "output_length"))
    if min(prompts.samples, outputs.samples) < _FEWEST:
        return workload
    lengths = Lengths(prompt=quantiles(prompts), output=quantiles(outputs))
    return Poisson(
        rate=workload.rate,
        load=workload.load,
        lengths=lengths,
        prompt_scale=_scale(prompts, lengths.prompt),
        output_scale=_scale(outputs, lengths.output),
    )


def _scale(histogram: Histogram, within: Quantiles) -> float:
    """Returns the factor that gives a distribution the mean that was counted."""
    return histogram.mean / float(within.table().mean()) if histogram.mean > 0.0 else 1.0


def quantiles(histogram: Histogram) -> Quantiles:
    """Returns the distribution of a histogram's samples: even within each bucket.

    Args:
        histogram: Lengths in tokens, at least one.
    """
    probabilities, tokens, below = [0.0], [1.0], 0.0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=True):
        if count > below:
            upper = _TAIL * max(tokens[-1], 1.0) if math.isinf(bound) else float(bound)
            probabilities.append(count / histogram.samples)
            tokens.append(max(upper, tokens[-1]))
        elif below == 0.0 and not math.isinf(bound):
            tokens[0] = max(float(bound), 1.0)  # nothing is shorter
        below = count
    return Quantiles(probabilities=probabilities, tokens=tokens)
