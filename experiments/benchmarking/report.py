"""The benchmark's report: tables in Markdown, written next to the plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from experiments.benchmarking.answer import answer
from experiments.benchmarking.criteria import Goal
from experiments.benchmarking.front_tables import (
    beside_table,
    families_table,
    front_notes,
    levels_table,
)
from experiments.benchmarking.fronts import ASKED, LIMITS, Front, is_point, kept_scenarios
from experiments.benchmarking.metrics import (
    BASELINE,
    ORACLE,
    Results,
    column,
    difference,
    headroom,
    improvement,
    overall,
)
from experiments.evaluation.fronts import WORST_RATE
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    METRICS,
    OUTPUT_TOKENS_RELATIVE,
    TOKENS_PER_JOULE_RELATIVE,
    TOKENS_PER_JOULE_SYSTEM_RELATIVE,
    WITHIN_BUDGET,
    metrics_of,
)
from experiments.evaluation.statistics import Interval, bootstrap
from experiments.evaluation.suites import SuiteScenario
from experiments.reporting.markdown import markdown_table
from experiments.reporting.numbers import ABSENT, format_number

FRONTS_PLOT = "front.png"
OVERALL_PLOT = "benchmark.png"
SCENARIOS_PLOT = "benchmark_scenarios.png"
_RATES = metrics_of(
    WITHIN_BUDGET, "qos_violation_rate", "slo_violation_rate", "budget_overshoot_rate"
)
_PER_SCENARIO = (
    *metrics_of(TOKENS_PER_JOULE_RELATIVE), *_RATES,
    *metrics_of("ttft_p99_s", "tpot_p99_s", CHANGES_PER_MINUTE),
)  # fmt: skip
_BESIDE = metrics_of("ttft_p99_s", "tpot_p99_s", CHANGES_PER_MINUTE)
PROTOCOL = (
    "How the fronts were made was settled beforehand: [protocol](experiments.md#protocol-of-the-"
    "comparison)."
)


def report(
    results: Results,
    scenarios: Mapping[str, SuiteScenario],
    *,
    subject: str,
    fronts: Mapping[str, Front],
    points: Mapping[str, Sequence[str]],
    goals: Sequence[Goal],
    degeneracies: Sequence[Goal],
    facts: Sequence[str],
    plots: str = "",
) -> str:
    """Returns the report as Markdown.

    Args:
        results: All runs.
        scenarios: The suite's scenarios.
        subject: The agent that goals are checked for.
        fronts: Fronts by name; none for a comparison of single points only.
        points: Names of the runs of each front's points.
        goals: What is required of it.
        degeneracies: Signs of a policy that only seems good.
        facts: Lines that say what was run.
        plots: Path of the plots' folder, seen from the report's.
    """
    controllers = [name for name in next(iter(results.values())) if not is_point(name)]
    kept = kept_scenarios(results)
    left_out = [f"`{name}`" for name in results if name not in kept]
    parts = [
        "# Results of the standing comparison",
        *_fronts(kept, fronts, points, scenarios, subject, plots),
        "Made by `python -m experiments.benchmark`; every number below is computed by it.",
        "\n".join(f"- {fact}" for fact in facts),
        "Efficiency is tokens (prompt and output) per joule of the GPUs, divided by that of the "
        "Baseline strategy (`static`) in the same episode. QoS violations are the fraction of time "
        "in which throughput over 10 s stayed more than 5 % below the smaller of the target and "
        "what Baseline delivers on the same arrivals. The main definition, *within budget*, has "
        "a Baseline that keeps to the power budget: the highest knobs that it leaves. The other "
        "one's ignores budgets, so that who keeps to one may have to violate; without a budget "
        "they are the same. SLO violations are the "
        "fraction of requests. Intervals are 95 % stratified-bootstrap intervals. `oracle` is the "
        "best fixed knobs in hindsight for each episode; it is no rival, it looks ahead."
        + (
            f" Left out of all means, as no controller gains 1 % there: {', '.join(left_out)}."
            if left_out
            else ""
        ),
        PROTOCOL if fronts else "",
        f"![Efficiency and violations]({plots}{OVERALL_PLOT})",
        "## Over all scenarios",
        _overall(kept, controllers),
        f"## What is required of `{subject}`",
        _goals(goals),
        "## Signs of a degenerate solution",
        _goals(degeneracies),
        f"## `{subject}` against each rival, episode by episode",
        _pairs(kept, subject, controllers),
        "## Scenario by scenario",
        f"![Scenarios]({plots}{SCENARIOS_PLOT})",
    ]
    for name, scenario in scenarios.items():
        if name in results:
            parts += [f"### {name}", _describe(scenario), _scenario(results, name, controllers)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _fronts(
    results: Results,
    fronts: Mapping[str, Front],
    points: Mapping[str, Sequence[str]],
    scenarios: Mapping[str, SuiteScenario],
    subject: str,
    plots: str,
) -> list[str]:
    """Returns the comparison at every level of violations, its answer first."""
    if not fronts:
        return []
    asked = f"{100 * LIMITS[ASKED]:g} %"
    order = sorted(fronts, key=lambda name: -fronts[name].statistics.hypervolume.value)
    fronts = {name: fronts[name] for name in order}
    points = {name: points[name] for name in order}
    return [
        f"![Efficiency at every level of violations]({plots}{FRONTS_PLOT})",
        answer(fronts, subject),
        "## At every level of violations",
        front_notes(fronts),
        levels_table(fronts, subject),
        "Largest hypervolume first: it is the mean gain over Baseline at limits from 0 to "
        f"{WORST_RATE:.0%}. Bands and intervals are 95 % bootstrap intervals over episodes; "
        "differences and fractions of the clairvoyant's gain are resampled in pairs.",
        f"By family of scenarios, with their number: efficiency at {asked} of violations, and "
        "hypervolume.",
        families_table(results, points, scenarios),
        f"Each front's most efficient point within {asked}, and what it does besides (means over "
        "scenarios; electricity is the node's):",
        beside_table(results, fronts, points),
    ]


def _overall(results: Results, controllers: Iterable[str]) -> str:
    relative, system, served = metrics_of(
        TOKENS_PER_JOULE_RELATIVE, TOKENS_PER_JOULE_SYSTEM_RELATIVE, OUTPUT_TOKENS_RELATIVE
    )
    qos = METRICS[WITHIN_BUDGET]
    header = ["controller", f"{relative.head}, IQM", "the same, mean"]
    header += [f"{metric.head} (mean)" for metric in _RATES]
    header += [f"worst scenario's {qos.head}", f"{system.head}, IQM", served.head]
    header += [metric.head for metric in _BESIDE]
    rows = []
    for name in controllers:
        efficiency = overall(results, name, relative.key)
        system_efficiency = overall(results, name, system.key)
        tokens = overall(results, name, served.key)
        violations = overall(results, name, qos.key)
        row = [f"`{name}`", _interval(efficiency and efficiency.iqm)]
        row.append(_interval(efficiency and efficiency.mean))
        for metric in _RATES:
            rate = overall(results, name, metric.key)
            row.append(_interval(rate and rate.mean, metric.factor))
        row.append(qos.text(violations.worst if violations else None))
        row.append(_interval(system_efficiency and system_efficiency.iqm))
        row.append(served.text(tokens.mean.value if tokens else None))
        for metric in _BESIDE:
            own = overall(results, name, metric.key)
            row.append(metric.text(own.mean.value if own else None))
        rows.append(row)
    return markdown_table(header, rows)


def _goals(goals: Sequence[Goal]) -> str:
    words = {True: "yes", False: "**no**", None: "not checked"}
    rows = [[goal.name, goal.found, words[goal.met]] for goal in goals]
    return markdown_table(["required", "measured", "met"], rows)


def _pairs(results: Results, subject: str, controllers: Iterable[str]) -> str:
    relative = TOKENS_PER_JOULE_RELATIVE
    header = ["rival", "tok/J relative, difference"]
    header += ["QoS viol. within budget, difference in points"]
    header += ["SLO viol., difference in points", "probability of more tok/J"]
    rows = []
    for rival in controllers:
        if rival == subject:
            continue
        rows.append(
            [
                f"`{rival}`",
                _interval(difference(results, subject, rival, relative), signed=True),
                *[
                    _interval(difference(results, subject, rival, key), 100.0, signed=True)
                    for key in (WITHIN_BUDGET, "slo_violation_rate")
                ],
                _interval(improvement(results, subject, rival, relative)),
            ]
        )
    return markdown_table(header, rows)


def _scenario(results: Results, name: str, controllers: Sequence[str]) -> str:
    budget = column(results, name, BASELINE, "budget_overshoot_rate") is not None
    metrics = [
        metric
        for metric in _PER_SCENARIO
        if (budget or metric.key != WITHIN_BUDGET)
        and any(column(results, name, one, metric.key) is not None for one in controllers)
    ]
    header = ["controller", *[metric.head for metric in metrics], "of oracle's gain"]
    rows = []
    for controller in controllers:
        row = [f"`{controller}`"]
        for metric in metrics:
            values = column(results, name, controller, metric.key)
            row.append(_interval(None if values is None else bootstrap(values), metric.factor))
        has_oracle = ORACLE in results[name]
        fraction = headroom(results, name, controller) if has_oracle else None
        text = format_number(fraction.value if fraction else None, 100.0)
        rows.append([*row, f"{text} %" if fraction else text])
    return markdown_table(header, rows)


def _describe(scenario: SuiteScenario) -> str:
    def words(choice: object) -> str:
        if isinstance(choice, dict):
            rest = ", ".join(f"{k} {words(v)}" for k, v in choice.items() if k != "base")
            base = str(choice.get("base", ""))
            return f"{base} ({rest})" if base and rest else base or f"({rest})"
        return str(choice)

    text = "; ".join(f"{name} {words(part)}" for name, part in scenario.parts.items())
    return f"{scenario.family}: {text}."


def _interval(interval: Interval | None, factor: float = 1.0, *, signed: bool = False) -> str:
    if interval is None:
        return ABSENT
    digits = [_number(part * factor, signed) for part in interval]
    return f"{digits[0]} [{digits[1]}, {digits[2]}]"


def _number(number: float, signed: bool) -> str:
    digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:+.{digits}f}" if signed else f"{number:.{digits}f}"
