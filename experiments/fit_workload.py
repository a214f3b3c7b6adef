"""Fits the burstiness and the lengths of a trace: the numbers in ``conf/workload``.

Command: ``python -m experiments.fit_workload azure_conv [--path FILE]``
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.catalog import build
from envs.errors import ConfigurationError, PalsError
from envs.workloads.recording import Recording
from envs.workloads.servegen import ServeGen
from envs.workloads.servegen_pool import read_lengths, read_rates
from envs.workloads.trace import Trace

PROBABILITIES = (
    *(0.0, 0.01, 0.025),
    *(round(0.05 * step, 2) for step in range(1, 20)),
    *(0.975, 0.99, 0.999, 1.0),
)

_FEWEST, _SHORTEST_S = 100, 60.0
"""Requests, and the time over which they came, from which on bursts can be told."""


@dataclass(frozen=True)
class BurstyFit:
    """A two-state Markov-modulated Poisson process fitted to arrival times.

    Attributes:
        rate_per_s: Mean rate in requests per second.
        burst_ratio: Rate in bursts over that in quiet times.
        burst_fraction: Fraction of the time spent in bursts.
        burst_duration_s: Mean duration of a burst in seconds.
        log_likelihood_gain: Log-likelihood over that of a Poisson process of the same rate.
    """

    rate_per_s: float
    burst_ratio: float
    burst_fraction: float
    burst_duration_s: float
    log_likelihood_gain: float

    def dispersion(self, window_s: float) -> float:
        """Returns variance over mean of the number of arrivals in a window (1 for Poisson)."""
        fraction, ratio = self.burst_fraction, self.burst_ratio
        quiet_s = self.burst_duration_s * (1.0 - fraction) / fraction
        decay_per_s = 1.0 / self.burst_duration_s + 1.0 / quiet_s
        relative_mean = 1.0 + fraction * (ratio - 1.0)
        variance = fraction * (1.0 - fraction) * ((ratio - 1.0) / relative_mean) ** 2
        decay = decay_per_s * window_s
        memory_s = (1.0 - (1.0 - math.exp(-decay)) / decay) / decay_per_s
        return 1.0 + 2.0 * self.rate_per_s * variance * memory_s


def dispersion(time_s: NDArray[np.float64], window_s: float) -> float:
    """Returns variance over mean of the number of arrivals in whole windows.

    Args:
        time_s: Arrival times, ascending from 0, shape ``(n,)``.
        window_s: Length of a window in seconds.
    """
    counts = _counts(time_s, window_s)
    return float(counts.var(ddof=1) / counts.mean())


def fit_bursty(time_s: NDArray[np.float64], bin_s: float = 1.0) -> BurstyFit:
    """Fits :class:`~envs.workloads.bursty.Bursty` by maximum likelihood to counts in bins.

    Args:
        time_s: Arrival times, ascending from 0, shape ``(n,)``.
        bin_s: Width of a bin in seconds; bursts should last several bins.
    """
    from scipy.optimize import minimize

    counts = _counts(time_s, bin_s).tolist()
    rate_per_s = sum(counts) / (len(counts) * bin_s)

    def parameters(x: NDArray[np.float64]) -> tuple[float, float, float, float]:
        quiet_per_s, rise, quiet_s, burst_s = (math.exp(value) for value in x)
        return quiet_per_s, quiet_per_s * (1.0 + rise), quiet_s, burst_s

    def loss(x: NDArray[np.float64]) -> float:
        return -_log_likelihood(counts, bin_s, *parameters(x))

    starts = (np.log([0.8 * rate_per_s, 0.7, 40.0 * bin_s, length * bin_s]) for length in (5, 40))
    best = min(
        (
            minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-3})
            for start in starts
        ),
        key=lambda result: float(result.fun),
    )
    quiet_per_s, burst_per_s, quiet_s, burst_s = parameters(best.x)
    poisson = _log_likelihood(counts, bin_s, rate_per_s, rate_per_s, 1.0, 1.0)
    return BurstyFit(
        rate_per_s=rate_per_s,
        burst_ratio=burst_per_s / quiet_per_s,
        burst_fraction=burst_s / (burst_s + quiet_s),
        burst_duration_s=burst_s,
        log_likelihood_gain=-float(best.fun) - poisson,
    )


def _counts(time_s: NDArray[np.float64], window_s: float) -> NDArray[np.int64]:
    whole = int(time_s[-1] // window_s)
    return np.bincount((time_s / window_s).astype(np.int64))[:whole].astype(np.int64)


def _log_likelihood(
    counts: Sequence[int],
    bin_s: float,
    quiet_per_s: float,
    burst_per_s: float,
    quiet_s: float,
    burst_s: float,
) -> float:
    """Log-likelihood of the counts, up to a constant: the forward algorithm of a hidden chain."""
    burst_fraction = burst_s / (burst_s + quiet_s)
    kept = math.exp(-bin_s * (1.0 / burst_s + 1.0 / quiet_s))
    quiet_log, burst_log = math.log(quiet_per_s), math.log(burst_per_s)
    burst = burst_fraction
    total = 0.0
    for count in counts:
        quiet_term = count * quiet_log - quiet_per_s * bin_s
        burst_term = count * burst_log - burst_per_s * bin_s
        top = max(quiet_term, burst_term)
        quiet_weight = (1.0 - burst) * math.exp(quiet_term - top)
        burst_weight = burst * math.exp(burst_term - top)
        weight = quiet_weight + burst_weight
        total += top + math.log(weight)
        burst = burst_fraction + kept * (burst_weight / weight - burst_fraction)
    return total


def fit_quantiles(tokens: NDArray[np.int64]) -> list[int]:
    """Returns the lengths at :data:`PROBABILITIES`, for a ``Quantiles`` distribution.

    Args:
        tokens: Observed lengths, shape ``(n,)``.
    """
    return [round(value) for value in np.quantile(tokens, PROBABILITIES).tolist()]


def weighted_quantiles(tokens: NDArray[np.float64], fractions: NDArray[np.float64]) -> list[int]:
    """Returns the lengths at :data:`PROBABILITIES` of a histogram.

    Args:
        tokens: Ascending lengths, shape ``(n,)``.
        fractions: Fraction of the requests that have each, shape ``(n,)``.
    """
    below = np.cumsum(fractions)
    places = np.searchsorted(below, np.array(PROBABILITIES) * below[-1] * (1.0 - 1e-12))
    return [round(value) for value in tokens[np.minimum(places, len(tokens) - 1)].tolist()]


def pool_report(path: Path) -> str:
    """Returns the lengths of a ServeGen pool, and how its rate swings, as lines of YAML.

    Args:
        path: A folder or ``.tar.gz`` of the clients' files.
    """
    rates, step_s = read_rates(path, None)
    lines = [
        f"# {rates.mean():.3f} requests a second, {rates.max() / rates.mean():.2f} times that at "
        f"most; busiest over quietest {step_s:g} s: {rates.max() / max(rates.min(), 1e-9):.1f}, "
        f"of a sine {daily_swing(rates, step_s):.2f}"
    ]
    for name, kind in (("prompt", "input_tokens"), ("output", "output_tokens")):
        tokens, fractions = read_lengths(path, kind)
        lines += [
            f"{name}:  # mean {float((tokens * fractions).sum()):.1f}",
            f"  probabilities: {list(PROBABILITIES)}",
            f"  tokens: {weighted_quantiles(tokens, fractions)}",
        ]
    return "\n".join(lines)


def daily_swing(rates: NDArray[np.float64], step_s: float) -> float:
    """Returns highest over lowest rate of the sine that fits a day best (least squares).

    Args:
        rates: Requests per second in equal pieces of time, shape ``(n,)``.
        step_s: Length of a piece in seconds.
    """
    angle = 2.0 * np.pi * np.arange(len(rates)) * step_s / 86400.0
    terms = np.column_stack([np.ones(len(rates)), np.cos(angle), np.sin(angle)])
    mean, cosine, sine = np.linalg.lstsq(terms, rates, rcond=None)[0]
    swing = min(math.hypot(cosine, sine) / mean, 0.999)
    return float((1.0 + swing) / (1.0 - swing))


def report(recording: Recording) -> str:
    """Returns the fitted parameters of a recording as lines of YAML and text."""
    lines = [f"# {len(recording.time_s)} requests", *_bursty_lines(recording.time_s)]
    for name, tokens in (("prompt", recording.prompt_tokens), ("output", recording.output_tokens)):
        logs = np.log(tokens)
        lines += [
            f"{name}:  # mean {tokens.mean():.1f}, standard deviation {tokens.std():.1f}, "
            f"of the logarithm {logs.std():.3f}",
            f"  probabilities: {list(PROBABILITIES)}",
            f"  tokens: {fit_quantiles(tokens)}",
        ]
    return "\n".join(lines)


def _bursty_lines(time_s: NDArray[np.float64]) -> list[str]:
    if len(time_s) < _FEWEST or time_s[-1] < _SHORTEST_S:
        return [
            f"# no burstiness: {len(time_s)} requests in {time_s[-1]:g} s are too few to tell "
            f"({_FEWEST} in {_SHORTEST_S:g} s are the least)"
        ]
    if np.mean(np.diff(time_s) == 0.0) > 0.1:
        return ["# no burstiness: the clock is too coarse, most requests share an instant"]
    fit = fit_bursty(time_s)
    windows_s = [window_s for window_s in (1.0, 10.0, 60.0, 300.0) if window_s * 10 <= time_s[-1]]
    return [
        f"# {fit.rate_per_s:.3f} requests a second; log-likelihood over a Poisson process: "
        f"{fit.log_likelihood_gain:.0f}",
        f"burst_ratio: {fit.burst_ratio:.3f}",
        f"burst_fraction: {fit.burst_fraction:.3f}",
        f"burst_duration_s: {fit.burst_duration_s:.1f}",
        *(
            f"# variance over mean of the arrivals in {window_s:g} s: "
            f"{dispersion(time_s, window_s):.2f}, of the fit {fit.dispersion(window_s):.2f}"
            for window_s in windows_s
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the fit; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.fit_workload", description=__doc__)
    parser.add_argument(
        "workload", help="one that replays a trace, such as azure_conv; or servegen"
    )
    parser.add_argument("--path", help="file of the trace; by default where it was downloaded")
    options = parser.parse_args(arguments)
    try:
        trace = build("workload", {"base": options.workload, "path": options.path})
        if isinstance(trace, ServeGen):
            if options.path is None:
                raise ConfigurationError("--path: a folder or .tar.gz of a ServeGen pool")
            sys.stdout.write(pool_report(Path(options.path)) + "\n")
            return 0
        if not isinstance(trace, Trace):
            raise ConfigurationError(f"workload: {options.workload} replays no trace")
        sys.stdout.write(report(trace.read(trace.file)) + "\n")
    except PalsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
