"""The benchmark's report: tables in Markdown, written next to the plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from experiments.app.terminal import shown
from experiments.benchmarking.criteria import Goal
from experiments.benchmarking.metrics import (
    BASELINE,
    FIGURES,
    Results,
    column,
    difference,
    headroom,
    improvement,
    overall,
)
from experiments.evaluation.batched_rollout import WITHIN_BUDGET
from experiments.evaluation.statistics import Interval, bootstrap
from experiments.evaluation.suites import SuiteScenario

OVERALL_PICTURE = "benchmark.png"
SETTINGS_PICTURE = "benchmark_settings.png"
_PER_SETTING = (
    "efficiency", "qos_violation_rate", WITHIN_BUDGET, "slo_violation_rate",
    "budget_overshoot_rate", "ttft_p99_s",
)  # fmt: skip


def report(
    results: Results,
    settings: Mapping[str, SuiteScenario],
    *,
    subject: str,
    goals: Sequence[Goal],
    degeneracies: Sequence[Goal],
    facts: Sequence[str],
    plots: str = "",
) -> str:
    """Returns the report as Markdown.

    Args:
        results: All runs.
        settings: The suite's settings.
        subject: The agent that goals are checked for.
        goals: What was asked of it.
        degeneracies: Signs of a policy that only seems good.
        facts: Lines that say what was run.
        plots: Path of the plots' folder, seen from the report's.
    """
    controllers = list(next(iter(results.values())))
    parts = [
        "# Results of the standing comparison",
        "Made by `python -m experiments.benchmark`; every number below is computed by it.",
        "\n".join(f"- {fact}" for fact in facts),
        "Efficiency is tokens (prompt and output) per joule of the GPUs, divided by that of the "
        "Baseline strategy (`static`) in the same episode. QoS violations are the fraction of time "
        "in which throughput over 10 s stayed more than 5 % below the smaller of the target and "
        "what Baseline delivers on the same arrivals. Baseline ignores power budgets, so who keeps "
        "to one may have to violate; *within budget* means against the highest knobs that the "
        "budget leaves instead, which is the same where there is none. SLO violations are the "
        "fraction of requests. Intervals are 95 % stratified-bootstrap intervals. `oracle` is the "
        "best static setting in hindsight for each episode; it is no rival, it looks ahead.",
        f"![Efficiency and violations]({plots}{OVERALL_PICTURE})",
        "## Over all settings",
        _overall(results, controllers),
        f"## What was asked of `{subject}`",
        _goals(goals),
        "## Signs of a degenerate solution",
        _goals(degeneracies),
        f"## `{subject}` against each rival, episode by episode",
        _pairs(results, subject, controllers),
        "## Setting by setting",
        f"![Settings]({plots}{SETTINGS_PICTURE})",
    ]
    for name, setting in settings.items():
        if name in results:
            parts += [f"### {name}", _describe(setting), _setting(results, name, controllers)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _overall(results: Results, controllers: Iterable[str]) -> str:
    header = ["controller", "tok/J relative, IQM", "the same, mean"]
    header += [f"{figure.title} (mean)" for figure in FIGURES[2:6]]
    header += ["worst setting's QoS viol. %", "node tok/J relative, IQM", "tokens served"]
    rows = []
    for name in controllers:
        efficiency = overall(results, name, "efficiency")
        system = overall(results, name, "efficiency_system")
        served = overall(results, name, "served")
        rates = {figure.key: overall(results, name, figure.key) for figure in FIGURES[2:6]}
        qos = rates["qos_violation_rate"]
        row = [f"`{name}`", _interval(efficiency and efficiency.iqm)]
        row.append(_interval(efficiency and efficiency.mean))
        row += [_interval(rate and rate.mean, 100.0) for rate in rates.values()]
        row.append(shown(qos.worst if qos else None, 100.0))
        row += [_interval(system and system.iqm), shown(served.mean.value if served else None)]
        rows.append(row)
    return _table(header, rows)


def _goals(goals: Sequence[Goal]) -> str:
    words = {True: "yes", False: "**no**", None: "not looked at"}
    return _table(["asked", "found", "met"], [[g.name, g.found, words[g.met]] for g in goals])


def _pairs(results: Results, subject: str, controllers: Iterable[str]) -> str:
    header = ["rival", "tok/J relative, difference", "QoS viol., difference in points"]
    header += ["SLO viol., difference in points", "probability of more tok/J"]
    rows = []
    for rival in controllers:
        if rival == subject:
            continue
        rows.append(
            [
                f"`{rival}`",
                _interval(difference(results, subject, rival, "efficiency"), signed=True),
                *[
                    _interval(difference(results, subject, rival, key), 100.0, signed=True)
                    for key in ("qos_violation_rate", "slo_violation_rate")
                ],
                _interval(improvement(results, subject, rival, "efficiency")),
            ]
        )
    return _table(header, rows)


def _setting(results: Results, name: str, controllers: Iterable[str]) -> str:
    budget = column(results, name, BASELINE, "budget_overshoot_rate") is not None
    shown_figures = [
        figure
        for figure in FIGURES
        if figure.key in _PER_SETTING
        and (budget or figure.key != WITHIN_BUDGET)
        and any(column(results, name, one, figure.key) is not None for one in controllers)
    ]
    header = ["controller", *[figure.title for figure in shown_figures], "of oracle's gain"]
    rows = []
    for controller in controllers:
        row = [f"`{controller}`"]
        for figure in shown_figures:
            values = column(results, name, controller, figure.key)
            row.append(_interval(None if values is None else bootstrap(values), figure.factor))
        has_oracle = "oracle" in results[name]
        fraction = headroom(results, name, controller) if has_oracle else None
        row.append(shown(fraction.value if fraction else None, 100.0) + (" %" if fraction else ""))
        rows.append(row)
    return _table(header, rows)


def _describe(setting: SuiteScenario) -> str:
    def words(choice: object) -> str:
        if isinstance(choice, dict):
            rest = ", ".join(f"{k} {words(v)}" for k, v in choice.items() if k != "base")
            base = str(choice.get("base", ""))
            return f"{base} ({rest})" if base and rest else base or f"({rest})"
        return str(choice)

    text = "; ".join(f"{name} {words(part)}" for name, part in setting.parts.items())
    return f"{setting.family}: {text}."


def _interval(interval: Interval | None, factor: float = 1.0, *, signed: bool = False) -> str:
    if interval is None:
        return "–"
    digits = [_number(part * factor, signed) for part in interval]
    return f"{digits[0]} [{digits[1]}, {digits[2]}]"


def _number(number: float, signed: bool) -> str:
    digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:+.{digits}f}" if signed else f"{number:.{digits}f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
