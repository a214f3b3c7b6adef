"""Draws what each definition of a QoS violation counts: ``python -m examples.plot_qos``."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from envs.objectives.qos import QoSConfig
from pals_gym import Governor, Scenario, evaluate

SEED = 4
DEFINITIONS = {
    "plain": "plain: below the target",
    "backlog": "backlog-aware: below the target while requests wait",
    "reference": "reference-relative: below target and Baseline",
}
SCENARIO = Scenario(
    model="olmoe_1b_7b",
    server={"base": "simulated", "tensor_parallel": 1},
    workload={"base": "bursty", "load": 0.75},
    duration_s=300.0,
)


def main() -> None:
    """Draws the plot and prints the rate of violations by each definition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default="docs/images/qos_definitions.png")
    file: Path = parser.parse_args().file
    result = evaluate(Governor(), SCENARIO, seeds=[SEED])
    rows = result.intervals
    time = rows["time_s"]
    figure, (rates, *strips) = plt.subplots(
        4, 1, figsize=(9, 4.6), sharex=True, layout="constrained",
        gridspec_kw={"height_ratios": [6, 1, 1, 1]},
    )  # fmt: skip
    rates.plot(time, rows["reference_tok_s"], color="#C4C4C4", lw=3, label="Baseline delivers")
    rates.plot(time, rows["throughput_tok_s"], color="#0072B2", label="governor delivers")
    rates.plot(time, rows["target_tok_s"], "k--", lw=1, label="target")
    rates.set(ylabel="output tokens/s, 10 s window", ylim=(0, None))
    rates.legend(fontsize=8, ncols=3, loc="lower right")
    for axes, (name, label) in zip(strips, DEFINITIONS.items(), strict=True):
        violated = rows[f"violation_{name}"] > 0
        axes.fill_between(time, 0, 1, where=violated, step="pre", color="#D55E00", lw=0)
        counted = rows["time_s"] > QoSConfig().warmup_s
        rate = float(violated[counted].mean())
        axes.set(yticks=[], ylim=(0, 1))
        axes.set_title(f"{label} ({rate:.0%})", fontsize=8.5, loc="left", pad=2)
        print(f"{name}: {rate:.1%}")
    strips[-1].set_xlabel("time, s (the first 10 s are warm-up and left out)")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    print(file)


if __name__ == "__main__":
    main()
