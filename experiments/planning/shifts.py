"""Servers that are other than they were: who holds, and who breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from envs import catalog
from envs.errors import ConfigurationError
from envs.fields import Checked
from experiments.benchmarking.fronts import CLAIRVOYANT
from experiments.evaluation.fronts import NO_CHOICE
from experiments.evaluation.suites import PARTS
from experiments.planning.parts import Parts
from experiments.planning.study import Entry, Row, StudyConfig, reached, reached_text
from experiments.reporting.markdown import markdown_table
from experiments.reporting.numbers import ABSENT

NONE = "none"
"""The shift that changes nothing: others are compared with it."""
MORE_VIOLATIONS = 0.02
"""Rise of the violations from which on a controller breaks."""
LEAST_GAIN = 0.5
"""Part of its share of the clairvoyant's gain that a controller has to keep."""


@dataclass(kw_only=True)
class Shift(Checked):
    """How a server differs from the suite's, and what its operator still believes of it.

    Attributes:
        title: What has changed, in words.
        actual: Parts of the scenario that are other than in the suite: another choice's name, or
            values of some keys (``{workload: {output_scale: 3.0}}``).
        believed: The same of what profiles and twins are made from, in the server as it is now;
            ``None``: they are made for the server as it is.
    """

    config_key: ClassVar[str] = "shift"

    title: str = ""
    actual: dict[str, Any] = field(default_factory=dict)
    believed: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Checks that there is a title, and that all parts are parts of a scenario.

        Raises:
            ConfigurationError: A group is none of a scenario's.
        """
        super().__post_init__()
        self.require(bool(self.title), "title", "say what has changed")
        for key, changes in (("actual", self.actual), ("believed", self.believed or {})):
            wrong = [group for group in changes if group not in PARTS]
            if wrong:
                raise ConfigurationError(
                    f"shift.{key}: {wrong[0]} is no part of a scenario; there are "
                    f"{', '.join(PARTS)}"
                )


@dataclass(kw_only=True)
class ShiftConfig(StudyConfig):
    """What the study of shifts is made of (``conf/shift_study.yaml``).

    Attributes:
        shifts: Names in ``conf/shift``; ``none`` is what they are compared with.
        controllers: Controllers to try; ``clairvoyant`` tells what is possible after each shift.
    """

    shifts: list[str] = field(default_factory=list)
    controllers: list[str] = field(default_factory=list)


def shift_entries(config: ShiftConfig) -> list[Entry]:
    """Returns the lines of the study.

    Raises:
        ConfigurationError: There is no such shift, or nothing to compare with.
    """
    if NONE not in config.shifts:
        raise ConfigurationError(f"shifts: {NONE!r} has to be among them, to compare with")
    found = []
    for name in config.shifts:
        shift: Shift = catalog.build("shift", name)
        found += [
            Entry(
                f"{controller}, {name}",
                controller,
                None if shift.believed is None else Parts(shift.believed),
                Parts(shift.actual) if shift.actual else None,
                {"shift": name, "title": shift.title, "controller": controller},
            )
            for controller in config.controllers
        ]
    return found


def shift_report(rows: Sequence[Row]) -> str:
    """Returns the study as one table: a line for each shift, a column for each controller."""
    controllers = list(dict.fromkeys(row["controller"] for row in rows))
    titles = {row["shift"]: row["title"] for row in rows}
    lines = [
        [title, *(_cell(rows, controller, shift) for controller in controllers)]
        for shift, title in titles.items()
    ]
    head = ["what has changed", *(f"`{controller}`" for controller in controllers)]
    return (
        f"{markdown_table(head, lines)}\n\n"
        "Each cell: tokens per joule over Baseline's on the same server, and QoS violations within "
        "the budget. **Breaks**: violates "
        f"{100 * MORE_VIOLATIONS:g} points more of the time than without a shift. *Loses*: has "
        f"less than {LEAST_GAIN:.0%} of the share of the clairvoyant's gain that it had. Others "
        "hold.\n"
    )


def _cell(rows: Sequence[Row], controller: str, shift: str) -> str:
    text = reached_text(rows, f"{controller}, {shift}")
    if text == ABSENT:
        return text
    verdict = verdict_of(rows, controller, shift)
    return {"breaks": f"{text} **breaks**", "loses": f"{text} *loses*"}.get(verdict, text)


def verdict_of(rows: Sequence[Row], controller: str, shift: str) -> str:
    """Returns whether a controller ``breaks`` under a shift, ``loses`` its gain, or ``holds``."""
    _, before = reached(rows, f"{controller}, {NONE}")
    _, after = reached(rows, f"{controller}, {shift}")
    if before is not None and after is not None and after > before + MORE_VIOLATIONS:
        return "breaks"
    share, kept = (_share(rows, controller, name) for name in (NONE, shift))
    if share is not None and kept is not None and kept < LEAST_GAIN * share:
        return "loses"
    return "holds"


def _share(rows: Sequence[Row], controller: str, shift: str) -> float | None:
    """Returns a controller's part of the clairvoyant's gain; ``None`` where there is none."""
    own, best = (reached(rows, f"{name}, {shift}")[0] for name in (controller, CLAIRVOYANT))
    if own is None or best is None or best < NO_CHOICE:
        return None
    return (own - 1.0) / (best - 1.0)
