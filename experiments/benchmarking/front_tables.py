"""Tables of fronts: every level of violations, families of scenarios, and what else it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.benchmarking.fronts import (
    ASKED,
    CLAIRVOYANT,
    LIMITS,
    Front,
    fronts_of,
    operating_point,
    probability_at,
)
from experiments.benchmarking.metrics import Results, overall
from experiments.evaluation.fronts import with_clock
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    METRICS,
    NODE_KWH_PER_MILLION_TOKENS,
    OUTPUT_TOKENS_RELATIVE,
    TOKENS_PER_JOULE_RELATIVE,
    TOKENS_PER_JOULE_SYSTEM_RELATIVE,
    WITHIN_BUDGET,
    metrics_of,
)
from experiments.evaluation.suites import SuiteScenario
from experiments.reporting.markdown import markdown_table
from experiments.reporting.numbers import ABSENT, format_number, interval_text

PRICE_PER_KWH = 0.10
"""Price of a kilowatt-hour in dollars that costs are told at."""
CARBON_G_PER_KWH = 400.0
"""Carbon intensity in grams of CO2 that emissions are told at."""
_BESIDE = metrics_of(
    TOKENS_PER_JOULE_RELATIVE, WITHIN_BUDGET, "ttft_p99_s", "tpot_p99_s", "slo_violation_rate",
    "budget_overshoot_rate", CHANGES_PER_MINUTE, OUTPUT_TOKENS_RELATIVE,
    TOKENS_PER_JOULE_SYSTEM_RELATIVE, NODE_KWH_PER_MILLION_TOKENS,
)  # fmt: skip


def levels_table(fronts: Mapping[str, Front], subject: str) -> str:
    """Returns each front at every limit, its part of what was possible and its hypervolume."""
    asked = f"{100 * LIMITS[ASKED]:g} %"
    head = ["controller", *(f"efficiency at {100 * limit:g} % of violations" for limit in LIMITS)]
    head += [f"of the clairvoyant's gain at {100 * limit:g} %" for limit in LIMITS]
    head += ["hypervolume", f"probability that `{subject}` is more efficient at {asked}"]
    rows = []
    for name, own in fronts.items():
        row = [f"`{name}`"]
        row += [ABSENT if at is None else interval_text(at) for at in own.statistics.at]
        row += [
            ABSENT if part is None else f"{interval_text(part, 100.0, 0)} %"
            for part in own.headroom
        ]
        row.append(interval_text(own.statistics.hypervolume))
        chance = None
        if subject in fronts and name != subject:
            chance = probability_at(fronts[subject].episodes, own.episodes, LIMITS[ASKED])
        row.append(ABSENT if chance is None else interval_text(chance, 1.0, 2))
        rows.append(row)
    return markdown_table(head, rows, "l" + "r" * (len(head) - 1))


def families_table(
    results: Results,
    points: Mapping[str, Sequence[str]],
    scenarios: Mapping[str, SuiteScenario],
) -> str:
    """Returns each front in each family of scenarios: efficiency at the limit, and hypervolume."""
    families: dict[str, list[str]] = {}
    for name in results:
        families.setdefault(scenarios[name].family, []).append(name)
    found = {name: fronts_of(results, points, own) for name, own in families.items()}
    found = {name: own for name, own in found.items() if own}
    head = ["controller", *(f"{name} ({len(families[name])})" for name in found)]
    rows = []
    for name in points:
        row = [f"`{name}`"]
        for own in found.values():
            at, area = own[name].statistics.at[ASKED], own[name].statistics.hypervolume
            row.append(f"{ABSENT if at is None else interval_text(at)}; {interval_text(area)}")
        rows.append(row)
    return markdown_table(head, rows, "l" + "r" * len(found))


def beside_table(
    results: Results, fronts: Mapping[str, Front], points: Mapping[str, Sequence[str]]
) -> str:
    """Returns what each front's most efficient point within the limit does besides."""
    head = ["controller", *(metric.label for metric in _BESIDE)]
    head += [f"electricity, $/Mtok at {PRICE_PER_KWH:.2f} $/kWh"]
    head += [f"emissions, gCO2/Mtok at {CARBON_G_PER_KWH:g} g/kWh"]
    rows = []
    for name, own in fronts.items():
        point = operating_point(own.episodes, LIMITS[ASKED])
        if point is None:
            continue
        run = list(points[name])[point]
        values = {metric.key: overall(results, run, metric.key) for metric in _BESIDE}
        row = [f"`{name}`"]
        row += [metric.text(known.mean.value if (known := values[metric.key]) else None)
                for metric in _BESIDE]  # fmt: skip
        energy = values[NODE_KWH_PER_MILLION_TOKENS]
        used = energy.mean.value if energy else None
        row += [format_number(used, PRICE_PER_KWH), format_number(used, CARBON_G_PER_KWH)]
        rows.append(row)
    return markdown_table(head, rows, "l" + "r" * (len(head) - 1))


def front_notes(fronts: Mapping[str, Front]) -> str:
    """Returns what a reader of the tables has to know."""
    possible = (
        "`clairvoyant` plans with the true future; it is no rival, it says what was possible"
        if CLAIRVOYANT in fronts
        else "No clairvoyant was run, so it is not known what was possible"
    )
    if with_clock(CLAIRVOYANT) in fronts:
        possible += (
            f". Fronts with `clock` in their name may move the SM clock as well, and are measured "
            f"by what was possible with it, `{with_clock(CLAIRVOYANT)}`"
        )
    return (
        "A front is what a controller reaches at each level of violations by its own parameters; "
        "between two of its points lies a straight line, as both can be had in turn. Violations "
        f"are those against {METRICS[WITHIN_BUDGET].title.partition('against ')[2]}. {possible}. "
        f"`{ABSENT}`: no point of the front keeps to the limit in nine of ten resamples, or there "
        "is nothing to compare."
    )
