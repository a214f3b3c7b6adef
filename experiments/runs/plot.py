"""The plot of a run: throughput, power, batch and latency over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.context import ControlContext
from experiments.evaluation.metrics import scope_power_w
from experiments.records.interval_table import IntervalTable
from experiments.reporting.plot_style import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    SKY,
    log_scale,
    optional_plot,
    saved_plot,
)


@optional_plot
def draw_run(table: IntervalTable, context: ControlContext, file: Path, title: str) -> None:
    """Draws an episode.

    Args:
        table: Its rows.
        context: The server, for its limits and the warm-up.
        file: Where the PNG goes.
        title: Name of the controller.
    """
    time = table["time_s"]
    with saved_plot(file, 4, 1, (8.5, 9.0), sharex=True) as (figure, axes):
        _throughput(axes[0], time, table)
        _power(axes[1], time, table, context)
        _batch(axes[2], time, table)
        _latency(axes[3], time, table)
        for axis in axes:
            axis.axvspan(0.0, min(context.qos.warmup_s, time[-1]), color="#F3F3F3", zorder=0)
            if axis.get_legend_handles_labels()[0]:  # latency may have nothing to show
                axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        axes[-1].set_xlabel("Time in s (grey: warm-up, left out of QoS and latency)")
        axes[-1].set_xlim(0.0, float(time[-1]))
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")


def _throughput(axis: Any, time: NDArray[np.float64], table: IntervalTable) -> None:
    axis.set_title("Output throughput, tokens/s")
    if "reference_tok_s" in table.names:
        axis.plot(time, table["reference_tok_s"], color="#C4C4C4", lw=3.0, label="Baseline")
    axis.plot(time, table["throughput_tok_s"], color=BLUE, label="delivered")
    target = np.where(table["target_tok_s"] > 0, table["target_tok_s"], np.nan)
    if np.isfinite(target).any():
        axis.plot(time, target, color=BLACK, ls="--", label="target")
    axis.set_ylim(bottom=0.0)
    reading = "reference" if "violation_reference" in table.names else "backlog"
    violated = table[f"violation_{reading}"] > 0
    if violated.any():
        low, high = axis.get_ylim()
        axis.fill_between(
            time, low, high, where=violated, step="pre", color=RED, alpha=0.18, lw=0,
            label="QoS violated",
        )  # fmt: skip
        axis.set_ylim(low, high)


def _power(
    axis: Any, time: NDArray[np.float64], table: IntervalTable, context: ControlContext
) -> None:
    covered = "GPUs" if context.power_scope == "gpu" else "whole node"
    axis.set_title(f"Power, W ({covered})")
    if context.power_scope == "gpu":
        caps = context.num_gpus * table["power_cap_w"]
        axis.plot(time, caps, color=SKY, lw=3.5, alpha=0.6, label="caps, all GPUs")
    axis.plot(time, scope_power_w(table, context), color=RED, lw=1.0, label="drawn")
    if np.isfinite(table["power_budget_w"]).any():
        axis.plot(time, table["power_budget_w"], color=BLACK, ls="--", label="budget")
    axis.set_ylim(bottom=0.0)


def _batch(axis: Any, time: NDArray[np.float64], table: IntervalTable) -> None:
    axis.set_title("Requests")
    axis.plot(time, table["running"], color=GREEN, label="running")
    axis.plot(time, table["waiting"], color=RED, lw=0.9, label="waiting")
    axis.plot(time, table["max_num_seqs"], color=BLUE, lw=1.0, label="batch limit")
    axis.set_yscale("symlog", linthresh=8.0)
    axis.set_ylim(bottom=0.0)
    ticks = [0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384]
    top = float(np.nanmax([table["waiting"].max(), table["max_num_seqs"].max(), 8.0]))
    shown = [tick for tick in ticks if tick <= 1.2 * top]
    axis.set_yticks(shown, [str(tick) for tick in shown])
    axis.minorticks_off()


def _latency(axis: Any, time: NDArray[np.float64], table: IntervalTable) -> None:
    axis.set_title("Latency per interval (p99), s")
    for name, label, color in (
        ("ttft", "first token", BLUE),
        ("tpot", "per output token", SKY),
    ):
        seen = table[f"{name}_samples"] > 0
        values = np.where(seen, table[f"{name}_p99_s"], np.nan)
        if seen.any():
            axis.plot(time, values, color=color, label=label)
        slo = table[f"{name}_slo_s"]
        if np.isfinite(slo).any():
            axis.plot(time, slo, color=color, ls="--", lw=1.0, label=f"{label}, SLO")
    log_scale(axis.yaxis)
