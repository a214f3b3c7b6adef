"""What the terminal shows of a run while it lasts: live where it can, plain lines elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace, TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from envs.context import ControlContext
from envs.rendering import Shown, shown, status_line
from experiments.records.interval_table import Row
from experiments.runs.watching import Watcher

_SHOWN = 120
"""Intervals that sparklines look back."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_BESIDE = 31
"""Columns of a line without its sparkline."""
_REFRESH = 4.0
"""Pictures a second."""


class Dashboard(Watcher):
    """Throughput against target, power against cap and budget, batch, latency, tokens per joule.

    In a terminal of 40 columns or more it is a picture that is drawn again four times a second;
    where there is no terminal, a line now and then. Ctrl-C has it say what was done.

    Args:
        every_s: Time between two lines where there is no terminal; infinite for no line at all.
        console: Where it is shown; standard error by default.
        clock: What tells the time in seconds.
    """

    def __init__(
        self,
        every_s: float = 10.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(stderr=True, markup=False)
        self._every_s = every_s
        self._clock = clock
        self._told_s = clock()
        self._bars = Bars(
            TextColumn("{task.description:<12.12}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._context: ControlContext | None = None
        self._rows: deque[Row] = deque(maxlen=_SHOWN)
        self.done = Totals()
        """What was done so far."""
        self._live: Live | None = None
        self._moved: list[tuple[Any, Any]] = []

    def __enter__(self) -> Dashboard:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._picture,
                refresh_per_second=_REFRESH,
                redirect_stderr=False,
            )
            self._live.start()
            self._moved = list(_log_moved_to(sys.stdout))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            for handler, stream in self._moved:
                handler.setStream(stream)
        elif self._rows and kind is None and math.isfinite(self._every_s):
            self._line()
        if isinstance(error, KeyboardInterrupt) and self.done.intervals:
            self._console.print(f"until then: {self.done}", soft_wrap=True, highlight=False)

    def update(self, what: str, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` parts of ``what`` are done."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)

    def begins(self, context: ControlContext) -> None:
        """Takes the server whose intervals follow."""
        self._context = context

    def interval(self, row: Row) -> None:
        """Takes the row of an interval."""
        self._rows.append(row)
        self.done.add(row)
        if self._live is None and self._clock() - self._told_s >= self._every_s:
            self._told_s = self._clock()
            self._line()

    def _line(self) -> None:
        if self._context is not None:
            now = _shown(self._rows[-1], self._context)
            line = status_line(now._replace(tokens_per_joule=self.done.tokens_per_joule))
            self._console.print(line, soft_wrap=True, highlight=False)

    def _picture(self) -> RenderableType:
        """Returns what is drawn now."""
        if self._context is None or not self._rows:
            return self._bars
        context = self._context
        past = [_shown(row, context) for row in list(self._rows)]
        return Group(self._bars, panel(past, self.done, self._console.width))


class Totals:
    """What was done so far: sums, whatever the time that it took."""

    def __init__(self) -> None:
        self.intervals = 0
        self.seconds = 0.0
        self.tokens = 0.0
        self.output_tokens = 0.0
        self.energy_j = 0.0
        self.finished = 0.0
        self.violations = 0.0

    def add(self, row: Row) -> None:
        """Takes the row of an interval."""
        self.intervals += 1
        self.seconds += row["duration_s"] or 0.0
        output_tokens = row["output_tokens"] or 0.0
        self.output_tokens += output_tokens
        self.tokens += output_tokens + (row["prompt_tokens"] or 0.0)
        self.energy_j += row["energy_gpu_j"] or 0.0
        self.finished += row["finished"] or 0.0
        self.violations += row["cost"] or 0.0

    @property
    def violated(self) -> float:
        """Fraction of intervals in which QoS was violated."""
        return self.violations / max(self.intervals, 1)

    @property
    def tokens_per_joule(self) -> float:
        """Prompt and output tokens per joule of GPU energy; NaN before any energy."""
        return self.tokens / self.energy_j if self.energy_j > 0 else math.nan

    def __str__(self) -> str:
        return (
            f"{self.seconds:,.1f} s ({self.intervals:,} intervals), "
            f"{self.finished:,.0f} requests finished, {self.output_tokens:,.0f} output tokens, "
            f"{self.energy_j / 1e3:,.1f} kJ of GPUs, {self.tokens_per_joule:.3f} tokens/J, "
            f"QoS violated in {100 * self.violated:.1f} % of intervals"
        )


def panel(past: list[Shown], done: Totals, width: int) -> Table:
    """Returns the lines of the dashboard.

    Args:
        past: The last intervals, the latest last.
        done: What was done so far.
        width: Columns of the terminal.
    """
    now = past[-1]
    room = max(0, min(width - _BESIDE, _SHOWN))
    table = Table.grid(padding=(0, 1))
    for _ in range(2 + (room > 0)):
        table.add_column(no_wrap=True, overflow="crop")

    def line(label: str, value: str, name: str, limit: float = math.nan, bad: bool = False) -> None:
        text = Text(value, style="bold red" if bad else "bold")
        spark = sparkline([getattr(item, name) for item in past], limit, room)
        table.add_row(Text(label), text, *([Text(spark, style="cyan")] if room > 0 else []))

    short = now.throughput_tok_s < 0.95 * now.target_tok_s and now.waiting > 0
    over = now.power_w > now.budget_w
    line("tokens/s", _of(now.throughput_tok_s, now.target_tok_s, ",.0f"), "throughput_tok_s",
         now.target_tok_s, short)  # fmt: skip
    line("power W", _of(now.power_w, now.cap_w, ",.0f", "cap "), "power_w", now.cap_w, over)
    if math.isfinite(now.budget_w):
        line("budget W", f"{now.budget_w:,.0f}", "budget_w", now.cap_w)
    line("batch", _of(now.running, now.max_num_seqs, ".0f"), "running", now.max_num_seqs)
    line("waiting", f"{now.waiting:,.0f}", "waiting")
    line("TTFT p99", _seconds(_last(past, "ttft_p99_s")), "ttft_p99_s")
    line("TPOT p99", _seconds(_last(past, "tpot_p99_s")), "tpot_p99_s")
    line("tokens/J", _number(done.tokens_per_joule, ".3f"), "tokens_per_joule")
    violated = f"{100 * done.violated:.1f} % of time"
    table.add_row(Text("violated"), Text(violated, style="bold"))
    return table


def sparkline(values: list[float], limit: float, width: int) -> str:
    """Returns the last values as blocks; the highest block is the limit, or the highest value.

    Args:
        values: The values; NaN leaves a gap.
        limit: What counts as high; NaN for the highest value.
        width: Most values that are shown.
    """
    last = values[-width:] if width > 0 else []
    known = [value for value in last if math.isfinite(value)]
    top = max([*known, limit if math.isfinite(limit) else 0.0], default=0.0)
    if top <= 0:
        return " " * len(last)
    level = len(_BLOCKS) - 1
    return "".join(
        _BLOCKS[round(level * max(value, 0.0) / top)] if math.isfinite(value) else " "
        for value in last
    )


def _of(value: float, limit: float, form: str, word: str = "") -> str:
    text = _number(value, form)
    return f"{text} of {word}{_number(limit, form)}" if math.isfinite(limit) else text


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "none"


def _seconds(value: float) -> str:
    return f"{1e3 * value:.0f} ms" if value < 1.0 else f"{_number(value, '.2f')} s"


def _last(past: list[Shown], name: str) -> float:
    """Returns the latest value that there is."""
    values = (float(getattr(item, name)) for item in reversed(past))
    return next((value for value in values if math.isfinite(value)), math.nan)


def _shown(row: Row, context: ControlContext) -> Shown:
    """Returns what is shown of an interval's row."""
    known: Any = SimpleNamespace(**row)
    return shown(known, known, row["throughput_tok_s"] or 0.0, context)


def _log_moved_to(stream: Any) -> Iterator[tuple[logging.StreamHandler[Any], Any]]:
    """Has the log print above the picture, where it would print through it.

    Yields:
        Each handler that was changed, and its stream before.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.__stdout__:
            before = handler.setStream(stream)
            if before is not None:
                yield handler, before
