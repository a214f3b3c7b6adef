"""What an environment shows of itself: frames for videos, a window, or a line in the terminal."""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.extras import missing_extra
from envs.nearest import did_you_mean
from envs.objectives.conditions import Conditions
from envs.objectives.objective import power_in_scope
from envs.telemetry import Telemetry

RENDER_MODES = ("rgb_array", "human")
RENDER_FPS = 20
"""Frames per second of videos: ten times as fast as life at the default interval of 0.5 s."""
SHOWN_S = 60.0
"""Time that a frame looks back."""
_SIZE, _DPI = (8.0, 6.0), 80
_BLUE, _SKY, _GREEN, _RED, _BLACK = "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#222222"


class Shown(NamedTuple):
    """What is shown of one interval; NaN where there is nothing.

    Attributes:
        time_s: Its end.
        throughput_tok_s: Output tokens/s over the QoS window.
        target_tok_s: Its target.
        power_w: Power in the scope of the budget.
        cap_w: The power cap of all GPUs together.
        budget_w: Power budget.
        running: Requests in the batch.
        waiting: Requests that wait.
        max_num_seqs: Batch limit in force.
        ttft_p99_s: 99th percentile of time to first token.
        tpot_p99_s: 99th percentile of time per output token.
        tokens_per_joule: Prompt and output tokens per joule of GPU energy, as the metric.
    """

    time_s: float
    throughput_tok_s: float
    target_tok_s: float
    power_w: float
    cap_w: float
    budget_w: float
    running: float
    waiting: float
    max_num_seqs: float
    ttft_p99_s: float
    tpot_p99_s: float
    tokens_per_joule: float


def shown(
    telemetry: Telemetry, conditions: Conditions, throughput_tok_s: float, context: ControlContext
) -> Shown:
    """Returns what is shown of an interval."""
    seconds, energy = telemetry.duration_s, telemetry.energy_gpu_j
    tokens = telemetry.prompt_tokens + telemetry.output_tokens
    gpus_w = energy / seconds if seconds > 0 else math.nan
    return Shown(
        time_s=telemetry.time_s,
        throughput_tok_s=throughput_tok_s,
        target_tok_s=conditions.target_tok_s or math.nan,
        power_w=power_in_scope(gpus_w, context.power_scope, context.system_power),
        cap_w=telemetry.power_cap_w * context.num_gpus,
        budget_w=_finite(conditions.power_budget_w),
        running=telemetry.running,
        waiting=telemetry.waiting,
        max_num_seqs=telemetry.max_num_seqs,
        ttft_p99_s=telemetry.ttft_p99_s if telemetry.ttft_samples else math.nan,
        tpot_p99_s=telemetry.tpot_p99_s if telemetry.tpot_samples else math.nan,
        tokens_per_joule=tokens / energy if energy > 0 else math.nan,
    )


def _finite(value: float | None) -> float:
    """Returns a number; NaN for none, or for no limit."""
    return value if value is not None and math.isfinite(value) else math.nan


def status_line(interval: Shown) -> str:
    """Returns an interval as one line of text; what is not there is left out."""
    parts = [
        f"{interval.time_s:7.1f} s",
        f"{interval.throughput_tok_s:6.0f} tok/s" + _against(interval.target_tok_s),
        f"{interval.power_w:5.0f} W" + _against(interval.budget_w),
        f"batch {interval.running:.0f}/{interval.max_num_seqs:.0f} +{interval.waiting:.0f}",
    ]
    if interval.tokens_per_joule == interval.tokens_per_joule:
        parts.append(f"{interval.tokens_per_joule:.2f} tok/J")
    return "  ".join(parts)


def _against(limit: float) -> str:
    return f" of {limit:.0f}" if math.isfinite(limit) else ""


class Picture:
    """The last minute of an environment, drawn on demand.

    Args:
        mode: ``rgb_array`` or ``human``.
        context: The server.

    Raises:
        ConfigurationError: There is no such mode, or matplotlib is not installed.
    """

    def __init__(self, mode: str, context: ControlContext) -> None:
        if mode not in RENDER_MODES:
            raise ConfigurationError(
                f"render_mode: must be one of {', '.join(RENDER_MODES)}, got {mode!r}"
                f"{did_you_mean(mode, RENDER_MODES)}"
            )
        try:
            import matplotlib as mpl  # noqa: F401 - it is needed at the first frame
        except ImportError as error:
            raise ConfigurationError(f"render_mode: {missing_extra(error) or error}") from error
        self.mode = mode
        self._context = context
        length = max(2, round(SHOWN_S / context.interval_s))
        self._intervals: deque[Shown] = deque(maxlen=length)
        self._axes: _Axes | None = None

    def clear(self) -> None:
        """Forgets the episode before."""
        self._intervals.clear()

    def add(self, telemetry: Telemetry, conditions: Conditions, throughput_tok_s: float) -> None:
        """Takes an interval into the picture; shows it, where a person is watching."""
        self._intervals.append(shown(telemetry, conditions, throughput_tok_s, self._context))
        if self.mode == "human":
            self._show()

    def frame(self) -> NDArray[np.uint8] | None:
        """Returns the picture as an array of shape ``(480, 640, 3)``; ``None`` for people."""
        if self.mode == "human":
            return None
        if self._axes is None:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            figure = Figure(figsize=_SIZE, dpi=_DPI)
            FigureCanvasAgg(figure)
            self._axes = _Axes(figure, self._context)
        self._axes.draw(list(self._intervals))
        canvas: Any = self._axes.figure.canvas
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        """Closes the window, if there is one."""
        if self._axes is not None and self.mode == "human":
            import matplotlib.pyplot as plt

            plt.close(self._axes.figure)
        self._axes = None

    def _show(self) -> None:
        """Shows the last interval in a window, or as a line where no window can be opened."""
        if self._axes is None and not _has_windows():
            sys.stderr.write(status_line(self._intervals[-1]) + "\n")
            return
        if self._axes is None:
            import matplotlib.pyplot as plt

            self._axes = _Axes(plt.figure("pals-gym", figsize=_SIZE, dpi=_DPI), self._context)
            self._axes.figure.show()
        self._axes.draw(list(self._intervals))
        self._axes.figure.canvas.flush_events()

    @override
    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what is drawn: a copy draws its own."""
        return {**self.__dict__, "_axes": None}


def _has_windows() -> bool:
    """Returns whether matplotlib can open a window here."""
    import matplotlib.pyplot as plt
    from matplotlib.backends.registry import BackendFilter, backend_registry

    registry: Any = backend_registry
    silent = registry.list_builtin(BackendFilter.NON_INTERACTIVE)
    return plt.get_backend().lower() not in silent


class _Axes:
    """Four panels whose lines are moved rather than drawn again.

    Args:
        figure: Where they are.
        context: The server, for its limits.
    """

    def __init__(self, figure: Any, context: ControlContext) -> None:
        self.figure = figure
        self._top_w = 1.05 * power_in_scope(
            context.limits.power_cap_max_w * context.num_gpus,
            context.power_scope,
            context.system_power,
        )
        self._tokens = 1.3 * context.capacity_tok_s
        rows = figure.subplots(4, 1, sharex=True)
        figure.subplots_adjust(0.1, 0.08, 0.97, 0.95, hspace=0.45)
        scope = "GPUs" if context.power_scope == "gpu" else "node"
        self._panels = [
            (rows[0], "Output tokens/s", {
                "target_tok_s": (_BLACK, "--", "target"),
                "throughput_tok_s": (_BLUE, "-", "delivered"),
            }),
            (rows[1], f"Power, W ({scope})", {
                "cap_w": (_SKY, "-", "caps of the GPUs"),
                "budget_w": (_BLACK, "--", "budget"),
                "power_w": (_RED, "-", "drawn"),
            }),
            (rows[2], "Requests", {
                "max_num_seqs": (_BLUE, "-", "batch limit"),
                "running": (_GREEN, "-", "running"),
                "waiting": (_RED, "-", "waiting"),
            }),
            (rows[3], "Latency p99, s", {
                "ttft_p99_s": (_BLUE, ".-", "first token"),
                "tpot_p99_s": (_SKY, ".-", "per output token"),
            }),
        ]  # fmt: skip
        self._lines: dict[str, Any] = {}
        for axis, title, lines in self._panels:
            axis.set_title(title, fontsize=9, loc="left", fontweight="bold")
            axis.tick_params(labelsize=8)
            axis.grid(color="#E4E4E4", linewidth=0.6)
            for name, (color, style, label) in lines.items():
                (self._lines[name],) = axis.plot([], [], style, color=color, lw=1.3, label=label)
            axis.legend(loc="upper left", fontsize=7, ncols=3, frameon=False)
        rows[3].set_yscale("log")
        rows[3].set_xlabel("Time in s", fontsize=8)

    def draw(self, intervals: list[Shown]) -> None:
        """Moves the lines to the given intervals and draws."""
        table = np.array(intervals, dtype=float).reshape(-1, len(Shown._fields))
        columns = dict(zip(Shown._fields, table.T, strict=True))
        for name, line in self._lines.items():
            line.set_data(columns["time_s"], columns[name])
        last = float(columns["time_s"][-1]) if len(table) else 0.0
        tokens, power, requests, latency = (axis for axis, _, _ in self._panels)
        power.set_xlim(last - SHOWN_S, max(last, 1.0))
        tokens.set_ylim(0.0, max(self._tokens, _highest(columns["throughput_tok_s"])))
        power.set_ylim(0.0, max(self._top_w, _highest(columns["power_w"])))
        most = max(_highest(columns[name]) for name in ("running", "waiting", "max_num_seqs"))
        requests.set_ylim(0.0, 1.3 * max(most, 8.0))
        slowest = max(_highest(columns[name]) for name in ("ttft_p99_s", "tpot_p99_s"))
        latency.set_ylim(0.003, max(3.0, 3.0 * slowest))
        self.figure.canvas.draw()


def _highest(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return 1.05 * float(known.max()) if known.size else 0.0
