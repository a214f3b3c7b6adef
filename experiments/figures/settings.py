"""Settings of ``experiments.figures``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class FigureSettings:
    """What is made, and how thoroughly (``conf/figures.yaml``).

    Attributes:
        figure: A figure, or ``all``.
        seeds: Seeds of every stochastic run.
        duration: Length of the episodes on one server in seconds.
        cluster_duration: Length of the episodes on a cluster in seconds (arXiv:2605.21427 §4:
            60 minutes).
        page: Page to write, with its pictures in ``images`` beside it; ``null`` for none.
        executor: How runs are spread over processes.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        debug: What is shown of an error.
    """

    figure: Any = None
    seeds: int = 3
    duration: float = 600.0
    cluster_duration: float = 3600.0
    page: str | None = None
    executor: Any = None
    allow_packages: list[str] = field(default_factory=list)
    debug: Any = None


@dataclass(kw_only=True)
class Gallery:
    """Several figures.

    Attributes:
        figures: Their names in ``conf/figure``.
    """

    figures: list[str] = field(default_factory=list)
