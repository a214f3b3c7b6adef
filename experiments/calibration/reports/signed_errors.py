"""Tables of signed errors, row by row, for runs of ``python -m experiments.measure_gpu``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from experiments.calibration.data.measurement import IdlePower
from experiments.calibration.validation.load_replay import Replay
from experiments.calibration.validation.operating_points import (
    DECODE,
    MIXED,
    PREFILL,
    OperatingPoint,
    implied_efficiency,
)
from experiments.reporting.markdown import markdown_table

_TITLES = {
    DECODE: "Decode: one step at the measured mean context",
    PREFILL: "Prompts alone: TTFT of one at a time, or the time to serve all in flight once",
    MIXED: "Mixed steps: time per output token at the measured number running and token rates",
}
_HEAD = [
    "run", "batch", "tokens each", "ms", "simulated", "error", "W", "simulated", "error", "°C",
    "MHz", "simulated", "limit binds, simulated",
]  # fmt: skip
_LOAD_ROWS = (
    ("running", "requests running", 1.0, 1),
    ("output_tok_s", "output tok/s", 1.0, 0),
    ("prompt_tok_s", "prompt tok/s", 1.0, 0),
    ("itl_s", "ITL, ms", 1e3, 1),
    ("ttft_mean_s", "TTFT at the server, mean, ms", 1e3, 1),
    ("ttft_p50_s", "TTFT at the client, median, ms", 1e3, 1),
    ("power_w", "W", 1.0, 0),
)


def signed_tables(
    points: Sequence[OperatingPoint], idle: Sequence[IdlePower], replays: Sequence[Replay]
) -> str:
    """Returns all tables as Markdown, without a line break at the end; errors are signed.

    An error is simulated over measured less 1: a minus means that the simulator says less.
    """
    parts = [("Signed errors at a glance: median (lowest to highest), in %", _summary(points))]
    for kind, title in _TITLES.items():
        part = [p for p in points if p.kind == kind]
        if part:
            parts.append((title, markdown_table(_HEAD, map(_cells, part), "l" + "r" * 12)))
    decoding = [p for p in points if p.kind == DECODE]
    if decoding:
        parts.append(("Decode, and with the host times of the tables' engine", _host(decoding)))
    experts = [p for p in points if p.coverage is not None]
    if experts:
        parts.append(("Experts touched: popularity as calibrated, and uniform", _experts(experts)))
    limited = [p for p in points if p.held is not None]
    if limited:
        parts.append(("Where the power limit acts: clocks, and step at the measured clock",
                      _limited(limited)))  # fmt: skip
    if idle:
        parts.append(("Idle with the model loaded", _idle(idle)))
    if replays:
        parts.append(("Recorded requests, played to the simulated server", _loads(replays)))
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts)


def signed(simulated: float, real: float) -> str:
    """Returns an error in percent, with its sign."""
    return f"{100.0 * (simulated / real - 1.0):+.1f} %"


def time_quantity(point: OperatingPoint) -> tuple[float, float]:
    """Returns ``(measured, simulated)`` seconds of what a row times: ITL, or TPOT without it."""
    m = point.measurement
    if m.itl_s is not None:
        return m.itl_s, point.simulated["itl"]
    return float(m.tpot_s or np.nan), point.simulated["tpot"]


def _cells(point: OperatingPoint) -> list[str]:
    m = point.measurement
    real_s, simulated_s = time_quantity(point)
    power_w, clock_mhz = float(m.power_w or np.nan), m.gpu.sm_clock_max_mhz
    clock = "–" if m.clock_fraction is None else f"{m.clock_fraction * clock_mhz:.0f}"
    return [
        m.run,
        f"{m.batch:.0f}",
        f"{m.context_per_seq:.0f}",
        f"{1e3 * real_s:.2f}",
        f"{1e3 * simulated_s:.2f}",
        signed(simulated_s, real_s),
        f"{power_w:.0f}",
        f"{point.simulated['power']:.0f}",
        signed(point.simulated["power"], power_w),
        "–" if m.temperature_c is None else f"{m.temperature_c:.0f}",
        clock,
        f"{point.simulated['clock'] * clock_mhz:.0f}",
        f"{100.0 * point.simulated['binding']:.0f} %",
    ]


def _summary(points: Sequence[OperatingPoint]) -> str:
    rows = []
    for model in dict.fromkeys(p.measurement.model.name for p in points):
        for kind in _TITLES:
            part = [p for p in points if (p.measurement.model.name, p.kind) == (model, kind)]
            if part:
                times = [s / r - 1.0 for r, s in map(time_quantity, part)]
                powers = [p.simulated["power"] / (p.measurement.power_w or np.nan) for p in part]
                clocks = [
                    p.simulated["clock"] / (p.measurement.clock_fraction or np.nan) for p in part
                ]
                spans = [times, [x - 1.0 for x in powers], [x - 1.0 for x in clocks]]
                rows.append([model, kind, str(len(part)), *map(_span, spans)])
    return markdown_table(["model", "steps", "rows", "time", "power", "SM clock"], rows, "llrrrr")


def _span(errors: Iterable[float]) -> str:
    values = 100.0 * np.array(list(errors))
    low, middle, high = np.nanmin(values), np.nanmedian(values), np.nanmax(values)
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"


def _host(points: Sequence[OperatingPoint]) -> str:
    rows = []
    for p in points:
        real_s, simulated_s = time_quantity(p)
        power_w = float(p.measurement.power_w or np.nan)
        rows.append(
            [
                p.measurement.run,
                f"{p.measurement.batch:.0f}",
                signed(simulated_s, real_s),
                signed(p.own_engine["itl"], real_s),
                signed(p.simulated["power"], power_w),
                signed(p.own_engine["power"], power_w),
            ]
        )
    head = ["run", "batch", "ITL error", "the tables' engine", "power error", "the same"]
    return markdown_table(head, rows, "lrrrrr")


def _experts(points: Sequence[OperatingPoint]) -> str:
    rows = []
    for p in points:
        assert p.coverage is not None
        assert p.uniform is not None
        real_s, simulated_s = time_quantity(p)
        power_w = float(p.measurement.power_w or np.nan)
        efficiency = implied_efficiency(p, points)
        rows.append(
            [
                p.measurement.run,
                f"{p.measurement.batch:.0f}",
                f"{100.0 * p.coverage[0]:.0f} %",
                f"{100.0 * p.coverage[1]:.0f} %",
                signed(simulated_s, real_s),
                signed(p.uniform["itl"], real_s),
                signed(p.simulated["power"], power_w),
                signed(p.uniform["power"], power_w),
                "–" if efficiency is None else f"{efficiency:.2f}",
            ]
        )
    head = ["run", "batch", "experts touched, calibrated", "uniform", "ITL error, calibrated",
            "uniform", "power error, calibrated", "uniform",
            "efficiency that uniform implies"]  # fmt: skip
    return markdown_table(head, rows, "lrrrrrrrr")


def _limited(points: Sequence[OperatingPoint]) -> str:
    rows = []
    for p in points:
        assert p.held is not None
        m = p.measurement
        measured_clock = float(m.clock_fraction or np.nan)
        real_s = float(m.tpot_s or np.nan)
        rows.append(
            [
                m.run,
                f"{m.batch:.0f}",
                f"{m.context_per_seq:.0f}",
                f"{measured_clock * m.gpu.sm_clock_max_mhz:.0f}",
                f"{p.simulated['clock'] * m.gpu.sm_clock_max_mhz:.0f}",
                signed(p.simulated["clock"], measured_clock),
                f"{p.natural_w:.0f}",
                signed(p.simulated["tpot"], real_s),
                signed(p.held[0], real_s),
                signed(p.held[1], float(m.power_w or np.nan)),
            ]
        )
    head = ["run", "batch", "tokens each", "MHz", "simulated", "error", "simulated W, no limit",
            "time error", "at the measured clock: time error", "power error"]  # fmt: skip
    return markdown_table(head, rows, "lrrrrrrrrr")


def _idle(idle: Sequence[IdlePower]) -> str:
    rows = [
        [
            i.run,
            "–" if i.temperature_c is None else f"{i.temperature_c:.0f}",
            f"{i.power_w:.1f}",
            f"{i.gpu.idle_power_w:.1f}",
            signed(i.gpu.idle_power_w, i.power_w),
        ]
        for i in idle
    ]
    return markdown_table(["run", "°C", "W", "simulated", "error"], rows, "lrrrr")


def _loads(replays: Sequence[Replay]) -> str:
    rows = []
    for r in replays:
        for name, title, factor, digits in _LOAD_ROWS:
            real = getattr(r.load, name)
            if real is not None:
                simulated = r.simulated[name]
                values = [f"{factor * x:.{digits}f}" for x in (real, simulated)]
                rows.append([r.load.run, title, *values, signed(simulated, real)])
        highest = r.load.gpu.sm_clock_max_mhz
        real, simulated = r.load.clock_fraction, r.simulated["clock_fraction"]
        clocks = [f"{highest * real:.0f}", f"{highest * simulated:.0f}"]
        rows.append([r.load.run, "SM clock, MHz", *clocks, signed(simulated, real)])
        rows.append([r.load.run, "limit binds", "", f"{100.0 * r.cap_binding:.0f} %", ""])
    return markdown_table(["run", "what", "measured", "simulated", "error"], rows, "llrrr")
