"""What a figure is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from experiments.figures.claims import Claim

if TYPE_CHECKING:
    from experiments.figures.study import Study

NAMES = {
    "gpt2": "GPT-2",
    "llama2_7b": "Llama-2-7B",
    "mistral_7b": "Mistral-7B",
    "olmoe_1b_7b": "OLMoE",
    "qwen15_moe_a27b": "Qwen-MoE",
    "deepseek_moe_16b": "DeepSeek-MoE",
    "phi35_moe": "Phi-3.5-MoE",
    "mixtral_8x7b": "Mixtral",
}
"""The paper's names of its models (arXiv:2605.21427 Table 2)."""
FORMATS = ("png", "pdf")


@dataclass(frozen=True)
class Made:
    """A figure that has been made.

    Attributes:
        data: What the picture shows.
        draw: Draws it into a file (and its PDF twin); ``None`` for a table.
        claims: The paper's claims that rest on it.
    """

    data: pd.DataFrame
    draw: Callable[[Path], None] | None = None
    claims: Sequence[Claim] = field(default_factory=list)


class PaperFigure(ABC):
    """A figure or table of arXiv:2605.21427."""

    title: str

    @abstractmethod
    def make(self, study: Study) -> Made:
        """Runs what is missing and returns the figure."""
