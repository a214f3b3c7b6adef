"""Top-level keys of ``experiments.figures``, and the choice of several figures at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class FigureConfig:
    """Which figures are made, and how (``conf/figures.yaml``).

    Attributes:
        figure: A figure, or several of them (``all``).
        page: Markdown page to write, with its plots in ``images/reproduction`` beside it;
            ``None`` for none.
        executor: How runs are spread over processes.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        debug: How much of an error is shown.
    """

    figure: Any = None
    page: str | None = None
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
