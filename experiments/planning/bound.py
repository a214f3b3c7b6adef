"""The front of what is possible, and what others reach of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from envs.fields import Range
from envs.quantities import Gain, Seconds
from experiments.benchmarking.fronts import CLAIRVOYANT
from experiments.evaluation.fronts import NO_CHOICE, WORST_RATE, efficiency_at
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    METRICS,
    TOKENS_PER_JOULE_RELATIVE,
    WITHIN_BUDGET,
)
from experiments.planning.study import (
    DECISION_TIMES,
    Entry,
    Row,
    StudyConfig,
    metric_texts,
    reached,
)
from experiments.reporting.markdown import markdown_table
from experiments.reporting.numbers import ABSENT
from experiments.reporting.plot_style import BLUE, GREY, ORANGE, optional_plot, saved_plot

_EQUAL = (WITHIN_BUDGET, "slo_violation_rate")
_SHOWN = ("slo_violation_rate", "ttft_p99_s", CHANGES_PER_MINUTE, *DECISION_TIMES)


@dataclass(kw_only=True)
class HeadroomConfig(StudyConfig):
    """What the study of the bound is made of (``conf/headroom.yaml``).

    Attributes:
        prices: Prices of a violation (``controller.cost.violation_price``): the front.
        generations: Generations of the clairvoyant's search: where the curve still rises, the
            bound is not reached. So too the three that follow.
        horizons_s: How far it plans, in seconds.
        phases: Phases of its plans.
        replans_s: Times after which it plans again, in seconds.
        arrival_samples: Samples of the requests to come in place of the true ones
            (``controller.arrival_samples``), the price swept for each: what knowing arrivals is
            worth.
        planners: Controllers whose price is swept beside the clairvoyant's.
        controllers: Others, as they are.
    """

    prices: list[Gain] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0])
    generations: list[Annotated[int, Range(least=1, most=100)]] = field(
        default_factory=lambda: [1, 2, 4, 8]
    )
    horizons_s: list[Seconds] = field(default_factory=lambda: [20.0])
    phases: list[Annotated[int, Range(least=1, most=32)]] = field(default_factory=lambda: [5])
    replans_s: list[Seconds] = field(default_factory=lambda: [0.5])
    arrival_samples: list[Annotated[int, Range(least=1, most=1024)]] = field(
        default_factory=lambda: [6]
    )
    planners: list[str] = field(default_factory=lambda: ["mpc"])
    controllers: list[str] = field(default_factory=lambda: ["pals", "governor"])


def planners_of(config: HeadroomConfig) -> dict[str, dict[str, Any]]:
    """Returns the planners whose price is swept, by name, the bound first."""
    drawn = {
        f"{CLAIRVOYANT}, arrivals drawn {own} times": {"base": CLAIRVOYANT, "arrival_samples": own}
        for own in config.arrival_samples
    }
    return (
        {CLAIRVOYANT: {"base": CLAIRVOYANT}}
        | drawn
        | {own: {"base": own} for own in config.planners}
    )


def bound_entries(config: HeadroomConfig) -> list[Entry]:
    """Returns the lines of the study."""
    entries = [Entry(name, name, facts={"sweep": "none"}) for name in config.controllers]
    for name, keys in planners_of(config).items():
        entries += [
            Entry(
                f"{name}, price {price:g}",
                {**keys, "cost": {"violation_price": price}},
                facts={"sweep": "price", "planner": name, "price": price},
            )
            for price in config.prices
        ]
    stronger: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        *(
            (f"{count} generations", {"search": {"generations": count}}, {"generations": count})
            for count in config.generations
        ),
        *((f"horizon {own:g} s", {"horizon_s": own}, {}) for own in config.horizons_s),
        *((f"{count} phases", {"search": {"phases": count}}, {}) for count in config.phases),
        *((f"plans every {own:g} s", {"replan_s": own}, {}) for own in config.replans_s),
    ]
    entries += [
        Entry(
            f"{CLAIRVOYANT}, {words}",
            {"base": CLAIRVOYANT, **keys},
            facts={"sweep": "search", "planner": CLAIRVOYANT, **facts},
        )
        for words, keys, facts in stronger
    ]
    return entries


def points(rows: Sequence[Row], **facts: Any) -> list[tuple[str, float, float]]:
    """Returns label, violations and efficiency of some lines, means over scenarios.

    Args:
        rows: All rows.
        **facts: What the lines have to have.
    """
    labels = dict.fromkeys(
        row["label"] for row in rows if all(row.get(key) == own for key, own in facts.items())
    )
    found = []
    for label in labels:
        efficiency, violations = reached(rows, label)
        if violations is not None and efficiency is not None:
            found.append((label, violations, efficiency))
    return found


def bound_at(front: Sequence[tuple[str, float, float]], violations: float) -> float | None:
    """Returns the efficiency of the bound where it violates no more than that; ``None`` if never.

    Between two points of the front a straight line: both can be had in turn.
    """
    if not front:
        return None
    _, rates, efficiency = zip(*front, strict=True)
    found = efficiency_at(np.array(efficiency), np.array(rates), np.array([violations]))[0]
    return None if np.isnan(found) else float(found)


def bound_report(rows: Sequence[Row]) -> str:
    """Returns the study as Markdown: every line, and what it reaches of the bound."""
    front = points(rows, planner=CLAIRVOYANT)
    lines = []
    for label, violations, efficiency in points(rows):
        bound = bound_at(front, violations)
        reached = ABSENT
        if bound is not None and bound > NO_CHOICE:
            reached = f"{100 * (efficiency - 1.0) / (bound - 1.0):.0f} %"
        shown = metric_texts(rows, label, _SHOWN)
        lines.append(
            [label, f"{efficiency:.3f}", METRICS[WITHIN_BUDGET].text(violations), reached, *shown]
        )
    head = [
        "controller", "tokens/J over Baseline", METRICS[WITHIN_BUDGET].label,
        "of the bound's gain at equal violations", *(METRICS[key].label for key in _SHOWN),
    ]  # fmt: skip
    return markdown_table(head, lines, "l" + "r" * (len(head) - 1)) + "\n\n" + _ahead_report(rows)


class Ahead(NamedTuple):
    """A scenario in which the bound is none for some controller.

    Attributes:
        scenario: Its name.
        label: The line that is ahead.
        own: Row of that line.
        bound: The clairvoyant's most efficient row that violates no more; ``None`` if none is.
    """

    scenario: str
    label: str
    own: Row
    bound: Row | None


def ahead_of_bound(rows: Sequence[Row], margin: float = 0.005) -> list[Ahead]:
    """Returns where a line is more efficient than every row of the bound that violates no more.

    Left out is what no operator would take: lines no better than Baseline, and those that violate
    more than :data:`experiments.evaluation.fronts.WORST_RATE`. Violations are those within the
    budget, and of latency SLOs where there are any: who lets requests be late that have an SLO
    does not do what the bound is asked for.

    Args:
        rows: All rows.
        margin: Efficiency over the bound's that counts as none.
    """
    found = []
    for row in rows:
        if row.get("planner") == CLAIRVOYANT or row[WITHIN_BUDGET] is None:
            continue
        own = row[TOKENS_PER_JOULE_RELATIVE]
        if own <= 1.0 + margin or row[WITHIN_BUDGET] > WORST_RATE:
            continue
        bounds = [
            one
            for one in rows
            if one["scenario"] == row["scenario"]
            and one.get("planner") == CLAIRVOYANT
            and all((one[key] or 0.0) <= (row[key] or 0.0) + 1e-9 for key in _EQUAL)
        ]
        best = max(bounds, key=lambda one: one[TOKENS_PER_JOULE_RELATIVE], default=None)
        if best is None or own > best[TOKENS_PER_JOULE_RELATIVE] + margin:
            found.append(Ahead(row["scenario"], row["label"], row, best))
    return found


def _reached(row: Row) -> str:
    violations = METRICS[WITHIN_BUDGET].text(row[WITHIN_BUDGET])
    return f"{row[TOKENS_PER_JOULE_RELATIVE]:.3f} / {violations}"


def _ahead_report(rows: Sequence[Row]) -> str:
    found = ahead_of_bound(rows)
    if not found:
        return "In no scenario is another line ahead of all of the clairvoyant's.\n"
    lines = []
    for item in found:
        texts = [ABSENT if row is None else _reached(row) for row in (item.own, item.bound)]
        lines.append([f"`{item.scenario}`", item.label, *texts])
    head = ["where it is no bound", "for", "that one", "the clairvoyant"]
    return (
        "Ahead of every line of the clairvoyant that violates no more, neither throughput nor "
        "latency (tokens/J over Baseline / QoS violations within the budget, %):\n\n"
        + markdown_table(head, lines, "llrr")
        + "\n"
    )


@optional_plot
def draw_bound(rows: Sequence[Row], planners: Sequence[str], file: Path) -> None:
    """Draws efficiency against violations, and efficiency against the strength of the search.

    Args:
        rows: All rows.
        planners: Controllers whose price was swept, the clairvoyant first.
        file: Where the PNG goes.
    """
    with saved_plot(file, 1, 2, (9.0, 3.6)) as (_, grid):
        left, right = np.ravel(grid)
        for planner, color in zip(planners, (BLUE, ORANGE, GREY), strict=False):
            swept = sorted(points(rows, sweep="price", planner=planner), key=lambda p: p[1])
            left.plot(
                [100 * point[1] for point in swept], [point[2] for point in swept],
                "o-", color=color, label=planner,
            )  # fmt: skip
        for label, violations, efficiency in points(rows, sweep="none"):
            left.plot([100 * violations], [efficiency], "s", color=GREY)
            left.annotate(label, (100 * violations, efficiency), xytext=(5, 0),
                          textcoords="offset points", fontsize=8)  # fmt: skip
        left.set_xlabel("QoS violations within the budget, % of time")
        left.set_ylabel("Tokens per joule over Baseline")
        left.legend()
        counts = sorted({row["generations"] for row in rows if "generations" in row})
        curve = [
            (count, point[2])
            for count in counts
            for point in points(rows, sweep="search", generations=count)[:1]
        ]
        if curve:  # episodes too short have no rate of violations
            right.plot(*zip(*curve, strict=True), "o-", color=BLUE)
        right.set_xlabel("Generations of the clairvoyant's search")
        right.set_ylabel("Tokens per joule over Baseline")
