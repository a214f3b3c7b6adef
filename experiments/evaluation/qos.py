"""QoS relative to the Baseline strategy on the same arrivals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.compiled.window import windowed_rates
from envs.objectives.qos import QoSConfig, violation_reference
from experiments.records.interval_table import IntervalTable

FloatArray = NDArray[np.float64]


def after_warmup(table: IntervalTable, qos: QoSConfig) -> NDArray[np.bool_]:
    """Marks the intervals that QoS looks at: those that begin after the warm-up."""
    return np.asarray(qos.evaluates(table["time_s"] - table["duration_s"]))


def add_reference(
    table: IntervalTable,
    reference_tokens: FloatArray,
    qos: QoSConfig,
    interval_s: float,
    name: str = "reference",
) -> None:
    """Adds what another strategy delivered on the same arrivals, and who fell short of it.

    Args:
        table: An episode's rows; gets ``<name>_tok_s`` (the other's tokens/s over the QoS
            window) and ``violation_<name>`` (1 for each interval in violation).
        reference_tokens: The other's output tokens per interval of the same episode.
        qos: How throughput is evaluated.
        interval_s: Length of an interval in seconds.
        name: Which strategy: ``reference`` for Baseline.

    Raises:
        ValueError: The other ran for fewer intervals.
    """
    if len(reference_tokens) < len(table):
        raise ValueError("the reference is shorter than the episode")
    reference = windowed_rates(reference_tokens[: len(table)], qos.window_s, interval_s)
    violated = violation_reference(
        table["throughput_tok_s"], table["target_tok_s"], reference, qos.tolerance
    )
    table.add_column(f"{name}_tok_s", reference)
    table.add_column(f"violation_{name}", (violated & after_warmup(table, qos)).astype(float))


def violation_rate(table: IntervalTable, name: str, qos: QoSConfig, down: int = 0) -> float | None:
    """Returns the fraction of the evaluated intervals that violate QoS.

    Args:
        table: An episode's rows.
        name: By which definition: the column ``violation_<name>``.
        qos: How throughput is evaluated; its warm-up is left out.
        down: Further intervals after the warm-up in which the server was down; they violate.

    Returns:
        The rate; ``None`` when there is no target, no such column, or no interval in which the
        server answered after the warm-up.
    """
    evaluated = after_warmup(table, qos)
    column = f"violation_{name}"
    if column not in table or not evaluated.any() or not (table["target_tok_s"] > 0).any():
        return None
    return (float(table[column][evaluated].sum()) + down) / (int(evaluated.sum()) + down)
