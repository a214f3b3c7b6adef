"""The base class of figures, and the result that they return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from envs.errors import ConfigurationError
from envs.fields import Checked
from experiments.figures.claims import Claim
from experiments.figures.context import FigureContext

Row = dict[str, Any]
T = TypeVar("T")


def select_variants(variants: Mapping[str, T], names: Sequence[str] | None) -> dict[str, T]:
    """Returns the variants of these names; all of them for ``None``.

    Raises:
        ConfigurationError: There is no variant of a name.
    """
    if names is None:
        return dict(variants)
    unknown = [name for name in names if name not in variants]
    if unknown:
        raise ConfigurationError(
            f"figure.try_variants: no variant named {', '.join(unknown)}; "
            f"there are {', '.join(variants)}"
        )
    return {name: variants[name] for name in names}


@dataclass(frozen=True)
class Result:
    """A figure that has been made.

    Attributes:
        title: Title.
        caption: How the figure was made, and how to read it.
        rows: The data behind it; all rows have the same keys.
        draw: Draws it into a file of that stem, as PNG and PDF; ``None`` for a table.
        claims: The claims that it evaluates.
        notes: Further remarks, a sentence each.
    """

    title: str
    caption: str
    rows: list[Row]
    draw: Callable[[Path], None] | None = None
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Figure(Checked, ABC):
    """A figure of the paper, or one beyond it; its fields are the keys of its YAML file."""

    config_key: ClassVar[str] = "figure"

    @abstractmethod
    def make(self, context: FigureContext) -> Result:
        """Runs what has not been run yet and returns the figure.

        Args:
            context: Runs and measures for the figure.
        """
