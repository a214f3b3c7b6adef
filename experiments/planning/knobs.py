"""Power cap, SM clock, or both: the same controllers with each of the knobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from envs import catalog
from envs.errors import ConfigurationError
from experiments.evaluation.choices import ACTION
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    METRICS,
    TOKENS_PER_JOULE_RELATIVE,
    WITHIN_BUDGET,
)
from experiments.planning.study import Entry, Row, StudyConfig, metric_texts, reached_text
from experiments.reporting.markdown import markdown_table

_SHOWN = (TOKENS_PER_JOULE_RELATIVE, WITHIN_BUDGET, "ttft_p99_s", CHANGES_PER_MINUTE)


@dataclass(kw_only=True)
class KnobStudyConfig(StudyConfig):
    """What the comparison of knobs is made of (``conf/knob_study.yaml``).

    Attributes:
        knobs: Encodings of actions by name: which knobs may be moved.
        controllers: Names of the knobs that each controller can move.
    """

    knobs: dict[str, Any] = field(default_factory=dict)
    controllers: dict[str, list[str]] = field(default_factory=dict)


def knob_entries(config: KnobStudyConfig) -> list[Entry]:
    """Returns the lines of the study.

    Raises:
        ConfigurationError: A controller is to move knobs that have no encoding.
    """
    for encoding in config.knobs.values():
        catalog.build(ACTION, encoding)
    found = []
    for controller, names in config.controllers.items():
        for name in names:
            if name not in config.knobs:
                raise ConfigurationError(
                    f"controllers.{controller}: {name!r} is none of the knobs "
                    f"({', '.join(config.knobs)})"
                )
            choice = {"base": str(controller), ACTION: config.knobs[name]}
            facts = {"controller": str(controller), "knobs": name}
            found.append(Entry(f"{controller}, {name}", choice, facts=facts))
    return found


def knob_report(rows: Sequence[Row]) -> str:
    """Returns the study as Markdown: efficiency by knob, and each line in full."""
    controllers = list(dict.fromkeys(row["controller"] for row in rows))
    knobs = list(dict.fromkeys(row["knobs"] for row in rows))
    short = [
        [f"`{controller}`", *(reached_text(rows, f"{controller}, {name}") for name in knobs)]
        for controller in controllers
    ]
    full = [
        [label, *metric_texts(rows, label, _SHOWN)]
        for label in dict.fromkeys(row["label"] for row in rows)
    ]
    return (
        f"{markdown_table(['controller', *knobs], short)}\n\n"
        "Each cell: tokens per joule over Baseline's, and QoS violations within the budget.\n\n"
        + markdown_table(
            ["controller, knobs", *(METRICS[key].label for key in _SHOWN)], full,
            "l" + "r" * len(_SHOWN),
        )
        + "\n"
    )  # fmt: skip
