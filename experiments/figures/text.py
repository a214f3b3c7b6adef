"""Titles, captions, claims of the paper and explanations of a figure, read from ``text.yaml``.

A text is a template: ``{load:.0%}`` stands for a value that the code supplies by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from envs.errors import ConfigurationError
from experiments.evaluation.statistics import Interval
from experiments.figures.claims import Claim, SensitivityCase
from experiments.figures.plot_marks import model_label

FOLDER = Path(__file__).parent


@dataclass(kw_only=True)
class ClaimText:
    """A claim of the paper, with templates for the sentences about it.

    Attributes:
        claim: What the paper says.
        paper: Its value, its range, its words, or one of these per model.
        scenario: What was run.
        reason: Explanation of the verdict.
        unsaid: What the paper would have to give to settle it.
        unit: Unit of the values; empty for ratios.
    """

    claim: str
    paper: Any
    scenario: str
    reason: str
    unsaid: str = ""
    unit: str = ""

    def papers(self) -> dict[str, Any]:
        """Returns the paper's value per model; of a claim that has one per model."""
        return cast("dict[str, Any]", dict(self.paper))


@dataclass(kw_only=True)
class FigureText:
    """All texts of a figure.

    Attributes:
        id: Name of the figure.
        title: Template of the title.
        caption: Template of the caption.
        claims: Claims by the second part of their id.
        paper: Further numbers of the paper.
        phrases: Templates of parts of sentences that the code chooses among or repeats.
    """

    id: str
    title: str
    caption: str
    claims: dict[str, ClaimText] = field(default_factory=dict)
    paper: dict[str, Any] = field(default_factory=dict)
    phrases: dict[str, str] = field(default_factory=dict)

    def phrase(self, name: str, /, **values: Any) -> str:
        """Returns a phrase with its values filled in.

        Raises:
            ConfigurationError: There is no such phrase, or it asks for another value.
        """
        if name not in self.phrases:
            raise ConfigurationError(f"{self.id}/text.yaml: phrases.{name} is missing")
        return self._filled(f"phrases.{name}", self.phrases[name], values)

    def made(self, **values: Any) -> tuple[str, str]:
        """Returns title and caption with their values filled in."""
        return (
            self._filled("title", self.title, values),
            self._filled("caption", self.caption, values),
        )

    def evaluated(
        self,
        name: str,
        ours: Interval | float,
        verdict: str,
        *,
        sensitivity: Sequence[SensitivityCase] = (),
        model: str | None = None,
        **values: Any,
    ) -> Claim:
        """Returns a claim with our value and its verdict.

        Args:
            name: Key in ``claims``.
            ours: Our value, with or without an interval.
            verdict: One of :data:`~experiments.figures.claims.VERDICTS`.
            sensitivity: The value under other choices.
            model: Model that the claim is about, where there is one claim per model. Its name
                is appended to the id; its label fills ``{model}`` and its paper's value
                ``{paper}``.
            **values: Values of the templates.

        Raises:
            ConfigurationError: There is no such claim, or a template asks for another value.
        """
        if name not in self.claims:
            raise ConfigurationError(f"{self.id}/text.yaml: claims.{name} is missing")
        text = self.claims[name]
        paper, key = text.paper, name
        if model is not None:
            paper, key = text.papers()[model], f"{name}_{model}"
            values["model"] = model_label(model)
        values["paper"] = paper
        value, low, high = ours if isinstance(ours, Interval) else (ours, None, None)

        def filled(part: str, template: str) -> str:
            return self._filled(f"claims.{name}.{part}", template, values)

        return Claim(
            f"{self.id}.{key}",
            self.id,
            filled("claim", text.claim),
            paper if isinstance(paper, int | float | str) else list(paper),
            value,
            low,
            high,
            filled("scenario", text.scenario),
            verdict,
            filled("reason", text.reason),
            filled("unsaid", text.unsaid),
            text.unit,
            tuple(sensitivity),
        )

    def _filled(self, key: str, template: str, values: dict[str, Any]) -> str:
        try:
            return template.format_map(values).strip()
        except (KeyError, ValueError, IndexError) as error:
            raise ConfigurationError(
                f"{self.id}/text.yaml: {key}: cannot fill in {error}; there are "
                f"{', '.join(sorted(values)) or 'no values'}"
            ) from error


@cache
def figure_text(package: str, figure: str | None = None) -> FigureText:
    """Reads the texts of a figure.

    Args:
        package: Folder of the figure, such as ``fig07``.
        figure: Name of the figure in ids where one folder makes several figures; then its file
            is ``FIGURE.yaml`` in that folder.

    Raises:
        ConfigurationError: A key is missing, misspelt or has the wrong type.
    """
    file = FOLDER / package / f"{figure or 'text'}.yaml"
    try:
        schema = OmegaConf.structured(FigureText)
        node = OmegaConf.merge(schema, {"id": figure or package}, OmegaConf.load(file))
        return cast(FigureText, OmegaConf.to_object(node))
    except OmegaConfBaseException as error:
        raise ConfigurationError(f"{package}/{file.name}: {error}") from error
