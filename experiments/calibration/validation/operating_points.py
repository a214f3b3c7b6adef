"""Simulates the steady rows of one's own GPU as the engine does, for their signed errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from envs.simulator.calibration import for_engine
from envs.simulator.step_model import compile_step_model, resolve_step
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.data.readers import gpu_run
from experiments.calibration.validation.cross_validation import evaluate, installed

DECODE, PREFILL, MIXED = "decode", "prefill", "mixed"
LIMITED_CLOCK = 0.995
"""Mean clock, as a fraction of the highest, below which the power limit acted on a row."""
EVEN_SPREAD = 1e6
"""Popularity so even that every expert is as likely as any other."""


@dataclass(frozen=True)
class OperatingPoint:
    """A row beside its simulated counterpart.

    Attributes:
        measurement: The row.
        kind: Whether its steps decode, compute prompts, or both.
        simulated: Simulated quantities, as the engine computes them.
        uniform: The same with routing that is as uniform as that of random weights; ``None``
            for dense models.
        own_engine: Simulated quantities with the host times of the version of the engine that
            the calibration was fitted to.
        coverage: Fraction of the experts that a step of a decoding batch touches, as simulated
            and under uniform routing; ``None`` for other rows.
        natural_w: Simulated power at the highest clock, without a limit.
        held: Simulated time per output token and power at the measured clock, without a limit;
            ``None`` where the limit did not act.
    """

    measurement: Measurement
    kind: str
    simulated: dict[str, float]
    uniform: dict[str, float] | None
    own_engine: dict[str, float]
    coverage: tuple[float, float] | None
    natural_w: float
    held: tuple[float, float] | None


def operating_points(measurements: Sequence[Measurement]) -> list[OperatingPoint]:
    """Simulates the rows of runs of ``experiments.measure_gpu`` with installed calibrations.

    The engine knows no temperature of the chip, so the measured one is left out here.
    """
    return [_simulate(m) for m in measurements if m.dataset == gpu_run.DATASET]


def kind_of(m: Measurement) -> str:
    """Returns what a row's steps do."""
    if not any(step.prefill_tokens for step in m.steps):
        return DECODE
    return MIXED if any(step.decode_seqs for step in m.steps) else PREFILL


def _simulate(m: Measurement) -> OperatingPoint:
    calibration = installed(m.gpu)
    row = [replace(m, temperature_c=None)]
    simulated = evaluate(row, calibration, "")[0].simulated
    uniform = None
    if m.model.experts:
        even = replace(calibration, popularity_spread=EVEN_SPREAD)
        uniform = evaluate(row, even, "")[0].simulated
    own_engine = evaluate([replace(row[0], engine="")], calibration, "")[0].simulated
    kind = kind_of(m)
    coverage = _coverage(m) if m.model.experts and kind == DECODE else None
    clock = m.clock_fraction
    return OperatingPoint(
        m,
        kind,
        simulated,
        uniform,
        own_engine,
        coverage,
        natural_w=_at_clock(m, 1.0)[1],
        held=_at_clock(m, clock) if clock is not None and clock < LIMITED_CLOCK else None,
    )


def implied_efficiency(point: OperatingPoint, points: Sequence[OperatingPoint]) -> float | None:
    """Returns the share of the memory's bandwidth at which uniform coverage would be read.

    It is the bytes of the experts that a step touches more than one of the smallest batch of the
    same run, over the bandwidth and over the rise of the measured ITL.

    Returns:
        The share, or ``None`` where the run has no smaller batch or nothing rose.
    """
    m = point.measurement
    same = [p for p in points if p.measurement.run == m.run and p.coverage and p.measurement.itl_s]
    least = min(same, key=lambda p: p.measurement.batch, default=point)
    if not (point.coverage and least.coverage and m.itl_s and least.measurement.itl_s):
        return None
    rise_s = m.itl_s - least.measurement.itl_s
    rise_bytes = m.model.expert_bytes * (point.coverage[1] - least.coverage[1])
    if rise_s <= 0.0 or rise_bytes <= 0.0:
        return None
    return rise_bytes / (1e12 * m.gpu.memory_bandwidth_tb_s) / rise_s


def _at_clock(m: Measurement, clock: float) -> tuple[float, float]:
    """Returns time per output token and mean power at a clock, where no power limit acts."""
    c = compile_step_model(m.gpu, m.model, m.parallelism, for_engine(installed(m.gpu), m.engine))
    seconds = joules = 0.0
    for step in m.steps:
        time_s, power_w, _, _ = resolve_step(
            c, step.decode_seqs, step.context_tokens, step.prefill_tokens, step.prefill_pairs,
            math.inf, clock,
        )  # fmt: skip
        seconds += step.weight * time_s
        joules += step.weight * time_s * power_w
    return seconds, m.parallelism.num_gpus * joules / seconds


def _coverage(m: Measurement) -> tuple[float, float]:
    c = compile_step_model(m.gpu, m.model, m.parallelism, for_engine(installed(m.gpu), m.engine))
    visited = m.model.top_k / m.model.experts
    simulated = 1.0 - (1.0 + m.batch * c.token_density) ** -c.popularity_spread
    return max(float(simulated), visited), 1.0 - (1.0 - visited) ** m.batch
