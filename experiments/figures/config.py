"""Top-level keys of ``experiments.figures``, and the choice of several figures at once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from envs.quantities import Seconds, Seeds
from experiments.figures.base import Figure
from experiments.figures.saturation import SteadyConfig


@dataclass(kw_only=True)
class FigureConfig:
    """Which figures are made, and how (``conf/figures.yaml``).

    Attributes:
        figure: A figure, or several of them (``all``).
        page: Markdown page to write, with its plots in ``images/reproduction`` beside it;
            ``None`` for none.
        most_seeds: Seeds per figure at most, for a quick look; the captions say how many there
            were. ``None``: those of the figures.
        longest_s: Length of an episode at most, in seconds, likewise.
        executor: How runs are spread over processes.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        debug: How much of an error is shown.
    """

    figure: Any = None
    page: str | None = None
    most_seeds: Seeds | None = None
    longest_s: Seconds | None = None
    executor: Any = None
    allow_packages: list[str] = field(default_factory=list)
    debug: Any = None


@dataclass(kw_only=True)
class FigureSet:
    """Several figures, made one after the other.

    Attributes:
        figures: Their names in ``conf/figure``.
    """

    figures: list[str] = field(default_factory=list)


def shortened(figure: Figure, most_seeds: int | None, longest_s: float | None) -> Figure:
    """Returns a figure with at most so many seeds and so long episodes.

    Args:
        figure: The figure.
        most_seeds: Seeds at most; ``None``: its own.
        longest_s: Seconds at most; ``None``: its own.
    """
    highest = {
        "seeds": most_seeds,
        "variant_seeds": most_seeds,
        "duration_s": longest_s,
        "cluster_duration_s": longest_s,
    }
    changes: dict[str, Any] = {
        own.name: min(getattr(figure, own.name), limit)
        for own in fields(figure)
        if (limit := highest.get(own.name)) is not None
    }
    steady = getattr(figure, "steady", None)
    if isinstance(steady, SteadyConfig) and most_seeds is not None:
        changes["steady"] = replace(steady, seeds=min(steady.seeds, most_seeds))
    return replace(figure, **changes)
