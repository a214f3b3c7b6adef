"""Draws what the workloads send: ``python -m examples.plot_workloads [FILE]``.

With ``$PALS_DATA`` set, or after ``python -m experiments.download azure_conv``, the Azure
trace is drawn beside the workloads that were fitted to it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from envs.catalog import build
from envs.errors import WorkloadError
from envs.workloads.base import RequestChunk, Workload
from envs.workloads.recording import Recording
from experiments.fit_workload import dispersion

RATE_PER_S = 5.0
SEED = 3
ARRIVALS = ("poisson_gsm8k", "bursty", "bursty_strong", "diurnal")
LENGTHS = ("gsm8k", "hellaswag", "azure_conv", "mooncake", "long_context", "long_output")
COLOURS = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]


def requests(name: str, duration_s: float) -> RequestChunk:
    """Returns the requests of a workload in the first seconds of an episode."""
    workload: Workload = build("workload", name)
    stream = workload.stream(np.random.default_rng(SEED), RATE_PER_S)
    chunk = stream.take(round(3 * RATE_PER_S * duration_s))
    kept = slice(0, int(np.searchsorted(chunk.arrival_time_s, duration_s)))
    return RequestChunk(*(array[kept] for array in chunk[:3]))


def azure() -> Recording | None:
    """Returns the Azure trace if it is on this machine."""
    trace = build("workload", "azure_conv")
    try:
        return trace.read(trace.file)  # type: ignore[no-any-return]
    except WorkloadError:
        return None


def draw_rates(axes: Axes, recording: Recording | None) -> None:
    """Draws arrivals per second over ten minutes, one lane per workload."""
    duration_s, bin_s = 600.0, 5.0
    edges = np.arange(0.0, duration_s + bin_s, bin_s)
    lanes = {name: requests(name, duration_s).arrival_time_s for name in ARRIVALS}
    if recording is not None:
        lanes["azure_conv (replay)"] = recording.time_s[recording.time_s < duration_s]
    for lane, (name, time_s) in enumerate(lanes.items()):
        rate = np.histogram(time_s, edges)[0] / bin_s
        base = -18.0 * lane
        axes.stairs(rate + base, edges, baseline=base, fill=True, color=COLOURS[lane], alpha=0.8)
        axes.text(8.0, base + 13.5, name, fontsize=9)
    axes.set(
        xlim=(0, duration_s),
        ylim=(-18.0 * len(lanes) + 18.0, 18.0),
        xlabel="time [s]",
        title=f"Arrivals, mean {RATE_PER_S:g}/s",
    )
    axes.set_yticks([-18.0 * lane + rate for lane in range(len(lanes)) for rate in (0, 10)])
    axes.set_yticklabels(["0", "10"] * len(lanes))
    axes.set_ylabel("requests/s")


def draw_dispersion(axes: Axes, recording: Recording | None) -> None:
    """Draws how bursty the arrivals are at each time scale."""
    windows_s = np.geomspace(0.5, 300.0, 25)
    for lane, name in enumerate(ARRIVALS[:3]):
        time_s = requests(name, 40_000.0).arrival_time_s
        axes.plot(windows_s, [dispersion(time_s, w) for w in windows_s], color=COLOURS[lane],
                  label=name)  # fmt: skip
    if recording is not None:
        # As many requests a second as the others: the excess over 1 grows with the rate.
        thin = len(recording.time_s) / recording.time_s[-1] / RATE_PER_S
        excess = [(dispersion(recording.time_s, w) - 1.0) / thin for w in windows_s]
        axes.plot(windows_s, 1.0 + np.array(excess), "k.", label="azure_conv")
    axes.set(xscale="log", yscale="log", xlabel="window [s]", title="Burstiness",
             ylabel="variance / mean of arrivals in a window")  # fmt: skip
    axes.legend(fontsize=8)


def draw_lengths(axes: Axes, part: str, measured: NDArray[np.int64] | None) -> None:
    """Draws the distribution of prompt or output lengths."""
    fraction = (np.arange(4096) + 0.5) / 4096
    for lane, name in enumerate(LENGTHS):
        table = getattr(build("workload/lengths", name), part).table()
        axes.plot(table, fraction, color=COLOURS[lane], label=f"{name}, mean {table.mean():.0f}")
    if measured is not None:
        marks = np.linspace(0.01, 0.99, 50)
        axes.plot(np.quantile(measured, marks), marks, "k.", markersize=4, label="Azure trace")
    axes.set(xscale="log", xlabel="tokens", ylabel="fraction of requests", ylim=(0, 1),
             title=f"{part.capitalize()} lengths")  # fmt: skip
    axes.legend(fontsize=8)


def main() -> None:
    """Draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default="docs/images/workloads.png")
    file: Path = parser.parse_args().file
    recording = azure()
    figure, ((rates, bursts), (prompts, outputs)) = plt.subplots(
        2, 2, figsize=(12, 9), layout="constrained"
    )
    draw_rates(rates, recording)
    draw_dispersion(bursts, recording)
    draw_lengths(prompts, "prompt", None if recording is None else recording.prompt_tokens)
    draw_lengths(outputs, "output", None if recording is None else recording.output_tokens)
    for axes in (bursts, prompts, outputs):
        axes.grid(alpha=0.3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    print(file)


if __name__ == "__main__":
    main()
