"""The look of all plots: colours that colour-blind readers can tell apart, plain axes."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from envs.cache import atomic_write_bytes
from envs.extras import missing_extra

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C8C", "#222222",
)  # fmt: skip
"""Okabe and Ito's palette, with greys."""
COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, GREY)
"""The same in the order in which lines of many controllers take them."""
_TONES = (0.6, 1.4, 0.42, 1.62, 0.75, 1.22)
"""What further rounds through the colours do to them: below 1 darker, above 1 lighter."""

_RC: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.2,
    "savefig.dpi": 150,
    "figure.dpi": 150,
}


_Arguments = ParamSpec("_Arguments")


def optional_plot(draw: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Leaves a plot out, with one line that says so, where matplotlib is not installed.

    It is for plots that accompany numbers; a command whose product is the plot fails instead.
    """

    @wraps(draw)
    def draw_if_possible(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        try:
            draw(*args, **kwargs)
        except ImportError as error:
            message = missing_extra(error)
            if message is None:
                raise
            sys.stderr.write(f"no plot is drawn: {message}\n")

    return draw_if_possible


def distinct_colors(count: int) -> list[str]:
    """Returns colours for the lines of a plot: the palette, then its darker and lighter tones.

    Args:
        count: How many lines there are. Up to 56 colours are there once, then they begin again.
    """
    found = [*COLORS, *(toned(color, tone) for tone in _TONES for color in COLORS)]
    return [found[number % len(found)] for number in range(count)]


def toned(color: str, tone: float) -> str:
    """Returns a colour mixed with black (``tone`` below 1) or with white (above 1, at most 2)."""
    parts = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    mixed = (part * tone if tone <= 1 else part + (255 - part) * (tone - 1) for part in parts)
    return "#" + "".join(f"{round(part):02X}" for part in mixed)


@contextmanager
def saved_plot(
    file: Path,
    rows: int,
    columns: int,
    size: tuple[float, float],
    *,
    formats: Sequence[str] = ("png",),
    **options: Any,
) -> Iterator[tuple[Any, Any]]:
    """Yields a figure and its axes, and writes the figure whole at the end.

    It needs no display, and the same drawing gives the same bytes.

    Args:
        file: Where the plot goes.
        rows: Rows of axes.
        columns: Columns of axes.
        size: Width and height in inches.
        formats: File formats (``png``, ``pdf``); each has its own ending.
        **options: Passed to ``Figure.subplots``.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {**mpl.rcParamsDefault, **_RC}
    with mpl.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(rows, columns, **options)
        for kind in formats:
            buffer = io.BytesIO()
            nameless = {"png": {"Software": None}, "pdf": {"CreationDate": None}}[kind]
            figure.savefig(buffer, format=kind, metadata=nameless)
            atomic_write_bytes(file.with_suffix(f".{kind}"), buffer.getvalue())


def log_scale(axis: Any) -> None:
    """Gives an axis (``axes.xaxis`` or ``axes.yaxis``) a logarithmic scale with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
