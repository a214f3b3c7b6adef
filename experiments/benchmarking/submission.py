"""A controller of anybody's on the frozen suite: its row of the leaderboard."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.bundle import find_bundle, read_bundle
from envs import catalog
from envs.cache import atomic_write_text
from envs.errors import ConfigurationError
from envs.fields import Checked
from envs.quantities import Seconds, Seeds
from envs.safe_files import read_regular
from envs.scenario import Scenario
from envs.sources import code_hash, library_versions, packages_hash
from envs.strict_json import read_json
from envs.user_paths import user_path
from experiments.benchmarking.metrics import BASELINE, Results, overall
from experiments.benchmarking.scenario_runs import ScenarioRuns
from experiments.evaluation.choices import ACTION
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    TOKENS_PER_JOULE_RELATIVE,
    WITHIN_BUDGET,
    metrics_of,
)
from experiments.evaluation.suites import Suite
from experiments.profiling.sweep import ProfileConfig
from experiments.records.hashing import digest
from experiments.records.provenance import version
from experiments.reporting.markdown import markdown_table
from experiments.reporting.numbers import ABSENT, interval_text

OnScenario = Callable[[int, int], None]
METRICS = metrics_of(
    TOKENS_PER_JOULE_RELATIVE, WITHIN_BUDGET, "qos_violation_rate", "slo_violation_rate",
    "budget_overshoot_rate", CHANGES_PER_MINUTE,
)  # fmt: skip
"""What a row holds of each controller."""
TABLE, PAGE = "leaderboard.json", "leaderboard.md"
_MOST_BYTES = 16 << 20
_CONTROLLER = "submitted"


@dataclass(frozen=True, kw_only=True)
class Frozen(Checked):
    """The suite as it is frozen; rows with another hash are not compared.

    Attributes:
        suite: Name of the suite.
        seeds: Episodes per scenario.
        duration_s: Length of an episode in seconds.
        only: Scenarios to take; empty for all of them.
    """

    config_key = "submission"

    suite: str = "test"
    seeds: Seeds = 8
    duration_s: Seconds = 1200.0
    only: tuple[str, ...] = ()

    def built(self) -> Suite:
        """Returns the suite."""
        suite: Suite = catalog.build("suite", {"base": self.suite, "only": list(self.only)})
        return suite

    @property
    def sha(self) -> str:
        """Hash of scenarios, seeds, lengths, and of the code and libraries that simulate them.

        Code that a submission brings along is no part of it: rows are compared across submissions.
        """
        suite = self.built()
        shared = Scenario(duration_s=self.duration_s)
        contents = {name: one.scenario(shared).content() for name, one in suite.scenarios.items()}
        code = [code_hash(), library_versions(), platform.machine()]
        return digest(contents, [suite.seed, self.seeds], code)


def submitted_choice(target: str) -> tuple[dict[str, Any], str]:
    """Returns a submission's choice of a controller, and what names it for ever.

    Args:
        target: A bundle or the folder of a training; or a controller's class, as an import path or
            as ``FILE.py:CLASS``, whose package or file is then trusted.

    Raises:
        ConfigurationError: It is neither.
    """
    target = _import_path(target)
    if user_path(target).is_dir() or "." not in target:
        choice: dict[str, Any] = {"base": "agent", "bundle": target}
        facts = read_bundle(find_bundle(target, "controller"))
        if facts.action.get("sm_clock"):  # a knob that the suite's own encoding does not have
            choice[ACTION] = dict(facts.action)
        return choice, facts.sha256[:16]
    package = target.partition(".")[0]
    catalog.allow_package(package)
    choice = {"_target_": target}
    catalog.build("controller", choice)
    return choice, digest(target, packages_hash())


def _import_path(target: str) -> str:
    """Returns the import path of a class in a file; what names no file is returned as it is.

    Modules are found from the working directory, too, however the command was started.

    Raises:
        ConfigurationError: There is no such file.
    """
    name, colon, own = target.rpartition(":")
    folder = Path.cwd()
    if colon and name.endswith(".py"):
        file = user_path(name).resolve()
        if not file.is_file():
            raise ConfigurationError(f"{file}: there is no such file")
        folder, target = file.parent, f"{file.stem}.{own}"
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return target


def evaluate_submission(
    target: str, name: str, frozen: Frozen, directory: Path, on_scenario: OnScenario
) -> dict[str, Any]:
    """Runs a controller on the frozen suite and returns its row.

    Args:
        target: See :func:`submitted_choice`.
        name: Its name on the leaderboard.
        frozen: The suite.
        directory: Where runs are kept.
        on_scenario: Called with the scenarios done and all scenarios.
    """
    if not "".join(name.split()).isprintable():
        raise ConfigurationError(f"--name: {name!r} has characters that cannot be printed")
    if frozen.seeds < 2:
        raise ConfigurationError(f"--seeds: intervals need at least 2, got {frozen.seeds}")
    choice, sha = submitted_choice(target)
    suite = frozen.built()
    seeds = range(suite.seed, suite.seed + frozen.seeds)
    shared, profile = Scenario(duration_s=frozen.duration_s), ProfileConfig()
    results: dict[str, Any] = {}
    on_scenario(0, len(suite.scenarios))
    for number, (key, scenario) in enumerate(suite.scenarios.items(), start=1):
        runs = ScenarioRuns(shared, profile, key, scenario, seeds, directory / "runs")
        results[key] = {BASELINE: runs.run(BASELINE, BASELINE)}
        results[key][_CONTROLLER] = runs.run(f"{_CONTROLLER}-{sha}", choice)
        on_scenario(number, len(suite.scenarios))
    return {
        "name": name,
        "controller": sha,
        "suite": frozen.sha,
        "seeds": frozen.seeds,
        "duration_s": frozen.duration_s,
        "only": list(frozen.only),
        "version": version(),
        "metrics": _metrics(results),
    }


def _metrics(results: Results) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric in METRICS:
        whole = overall(results, _CONTROLLER, metric.key)
        found[metric.key] = None if whole is None else list(whole.mean)
    return found


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Returns the rows of a leaderboard; none where there is no file yet.

    Raises:
        ConfigurationError: The file is damaged.
    """
    if not file.exists():
        return []
    try:
        rows: Any = read_json(read_regular(file, _MOST_BYTES))
        if not isinstance(rows, list):
            raise TypeError("it holds no list")
        leaderboard_page(rows)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"{file} is damaged ({reason})") from error
    return rows


def write_row(folder: Path, row: dict[str, Any]) -> None:
    """Adds a row to the leaderboard in a folder, in the place of an earlier one of its name."""
    rows = [one for one in read_rows(folder / TABLE) if one["name"] != row["name"]]
    rows = sorted([*rows, row], key=lambda one: str(one["name"]))
    page = leaderboard_page(rows)
    atomic_write_text(folder / TABLE, json.dumps(rows, indent=1) + "\n")
    atomic_write_text(folder / PAGE, page)


def confirm(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Checks that the leaderboard holds a row as it was evaluated just now.

    Raises:
        ConfigurationError: It does not; the message says what differs.
    """
    kept = [one for one in rows if one["name"] == row["name"]]
    if not kept:
        raise ConfigurationError(f"{TABLE}: there is no row {row['name']!r}")
    differs = [key for key, value in row.items() if kept[0].get(key) != value]
    if differs:
        raise ConfigurationError(
            f"{TABLE}: the row {row['name']!r} is not what was evaluated now; other: "
            f"{', '.join(differs)}"
        )


def leaderboard_page(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the leaderboard as Markdown, by suite, the most efficient controller first."""
    parts = [
        "# Leaderboard",
        "Made by `python -m experiments.submit`: means over the scenarios of the frozen suite with "
        "95 % bootstrap intervals. Rows of another suite (its hash covers scenarios, seeds, "
        "lengths, code and libraries) are not comparable. A controller that violates more saves "
        "more: read both.",
    ]
    suites = dict.fromkeys(str(row["suite"]) for row in rows)
    for suite in suites:
        own = [row for row in rows if row["suite"] == suite]
        own.sort(key=lambda row: -(row["metrics"][TOKENS_PER_JOULE_RELATIVE] or [0.0])[0])
        first = own[0]
        lines = [
            [_cell(str(row["name"])), f"`{row['controller']}`"]
            + [
                ABSENT
                if row["metrics"][metric.key] is None
                else interval_text(row["metrics"][metric.key], metric.factor, 3 if n == 0 else 1)
                for n, metric in enumerate(METRICS)
            ]
            for row in own
        ]
        head = ["name", "controller", *(metric.head for metric in METRICS)]
        parts += [
            f"## Suite `{suite}`",
            f"{first['seeds']} seed{'s' * (first['seeds'] != 1)} of {first['duration_s']:g} s in "
            "each scenario"
            + (f"; a try on {', '.join(first['only'])} alone." if first.get("only") else "."),
            markdown_table(head, lines, "ll" + "r" * len(METRICS)),
        ]
    return "\n\n".join(parts) + "\n"


def _cell(name: str) -> str:
    """Returns a name as a table's cell, which its bars and line breaks do not end."""
    return " ".join(name.split()).replace("|", "\\|")
