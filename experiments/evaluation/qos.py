"""QoS relative to the Baseline strategy on the same arrivals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.objectives.qos import QoSConfig, WindowedRate, violation_reference
from experiments.records.interval_table import IntervalTable

FloatArray = NDArray[np.float64]


def after_warmup(table: IntervalTable, qos: QoSConfig) -> NDArray[np.bool_]:
    """Marks the intervals that QoS looks at: those that begin after the warm-up."""
    begins = table["time_s"] - table["duration_s"]
    return np.asarray(begins > qos.warmup_s - 1e-6)


def violations(
    table: IntervalTable, reference_tokens: FloatArray, qos: QoSConfig, interval_s: float
) -> tuple[FloatArray, FloatArray]:
    """Evaluates an episode against what another strategy delivered on the same arrivals.

    Args:
        table: The episode's rows.
        reference_tokens: The other's output tokens per interval.
        qos: How throughput is evaluated.
        interval_s: Length of an interval in seconds.

    Returns:
        The other's tokens/s over the QoS window, and 1 for each interval in violation.

    Raises:
        ValueError: The other ran for fewer intervals.
    """
    if len(reference_tokens) < len(table):
        raise ValueError("the reference is shorter than the episode")
    window = WindowedRate(qos.window_s, interval_s)
    reference = np.array(
        [window.push(tokens)[0] for tokens in reference_tokens[: len(table)].tolist()]
    )
    violated = violation_reference(
        table["throughput_tok_s"], table["target_tok_s"], reference, qos.tolerance
    )
    return reference, (violated & after_warmup(table, qos)).astype(float)


def add_reference(
    table: IntervalTable, reference_tokens: FloatArray, qos: QoSConfig, interval_s: float
) -> None:
    """Adds what Baseline delivered and whether the episode violated QoS relative to it.

    Args:
        table: An episode's rows; gets ``reference_tok_s`` (over the QoS window) and
            ``violation_reference``.
        reference_tokens: Baseline's output tokens per interval of the same episode.
        qos: How throughput is evaluated.
        interval_s: Length of an interval in seconds.

    Raises:
        ValueError: Baseline ran for fewer intervals.
    """
    reference, violated = violations(table, reference_tokens, qos, interval_s)
    table.add_column("reference_tok_s", reference)
    table.add_column("violation_reference", violated)
