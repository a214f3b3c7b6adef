"""What a figure's module returns, and what it derives from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from envs.errors import ConfigurationError
from experiments.figures.claims import Claim

if TYPE_CHECKING:
    from experiments.figures.context import Workshop

Row = dict[str, Any]
T = TypeVar("T")


def tried(variants: Mapping[str, T], names: Sequence[str] | None) -> dict[str, T]:
    """Returns the variants that are to be tried: all of them, or those of some names.

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
        title: What it shows.
        caption: How it was made, and how to read it.
        rows: The data behind it; all rows have the same keys.
        draw: Draws it into a file of that stem, as PNG and PDF; ``None`` for a table.
        claims: The claims that it evaluates.
        notes: What has to be known besides, a sentence each.
    """

    title: str
    caption: str
    rows: list[Row]
    draw: Callable[[Path], None] | None = None
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Figure(ABC):
    """A figure of the paper, or one beyond it; its fields are the keys of its file."""

    @abstractmethod
    def make(self, workshop: Workshop) -> Result:
        """Runs what has not been run yet and returns the figure."""
