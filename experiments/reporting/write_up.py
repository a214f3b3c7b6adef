"""The blocks of the technical report, computed from the files and pages of ``make results``."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from envs.errors import ConfigurationError
from envs.strict_json import read_json
from experiments.benchmarking.answer import answer
from experiments.benchmarking.front_tables import levels_table
from experiments.benchmarking.fronts import Front, fronts_of, is_point
from experiments.benchmarking.report import FRONTS_PLOT
from experiments.figures.claims import NOT_REPRODUCED, REPRODUCED, VERDICTS
from experiments.records.made_files import refuse_edited
from experiments.reporting.markdown import markdown_table

NOT_MADE = "*Not made yet: `make results`.*"
SUBJECT = "ppo"
COPIED = {
    "cap_response": ("validation.md", "cap_uncertainty"),
    "speed": ("performance.md", "speed"),
    "planning": ("twin.md", "headroom"),
    "wrong_models": ("twin.md", "twin_errors"),
    "shifts": ("robustness.md", "shift_study"),
}
"""Blocks that are those of other pages: page and block."""
_PLANT_ROWS = ("model left out", "idle", "shapes left out", "TTFT", "unseen", "windows")
_COMPARISON = """\
![Efficiency, violations and latency of six controllers](docs/images/comparison.png)

*Mixtral-8x7B on four simulated A100s, Poisson arrivals at 70 % of capacity, five seeds
(`make plots`). Each saved joule has its price in throughput or waiting time.*"""
"""What the first page shows as long as no fronts were made."""
_FAMILY = "family left out"


def blocks(results: Path, docs: Path) -> dict[str, str]:
    """Returns the report's blocks; of what has not been made, a line that says so.

    Args:
        results: Folder of ``make results``.
        docs: Folder of the pages.
    """
    computed: dict[str, Callable[[], str]] = {
        "answer": lambda: _answer(results),
        "front": lambda: _front(docs),
        "protocol": lambda: _facts(results),
        "levels": lambda: _levels(results),
        "requirements": lambda: _requirements(results),
        "plant": lambda: _plant(docs),
        "claims": lambda: _claims(results),
        "mechanisms": lambda: _mechanisms(results),
    }
    found = {name: _made(compute) for name, compute in computed.items()}
    for name, (page, block) in COPIED.items():
        found[name] = _made(lambda page=page, block=block: block_of(docs / page, block))  # type: ignore[misc]
    return found


def first_page(results: Path, docs: Path) -> str:
    """Returns picture and sentence for the project's first page.

    Args:
        results: Folder of ``make results``.
        docs: Folder of the pages, beside the first page.
    """
    said = _made(lambda: _answer(results))
    if not (docs / "images" / FRONTS_PLOT).is_file() or said == NOT_MADE:
        return _COMPARISON
    return (
        f"![Efficiency at every level of violations: PALS, tuned rivals, the agent, planning, and "
        f"what was possible](docs/images/{FRONTS_PLOT})\n\n{said}\n\n"
        f"*{_made(lambda: _facts(results)).rstrip('.')} (`make results`); "
        "[all results](docs/results.md), [technical report](docs/report.md).*"
    )


def _made(compute: Callable[[], str]) -> str:
    try:
        return compute() or NOT_MADE
    except FileNotFoundError:
        return NOT_MADE
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise ConfigurationError(
            f"results: what the report is made of is damaged ({error!r}); make it again"
        ) from error


def _json(file: Path) -> Any:
    """Returns what a file of results holds.

    Raises:
        ConfigurationError: It is damaged or was edited.
    """
    try:
        return read_json(_as_made(file).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file}: is damaged ({error}); make it again") from error


def _as_made(file: Path) -> Path:
    """Returns a file of results.

    Raises:
        ConfigurationError: It was edited.
    """
    if file.is_file():
        refuse_edited(file)
    return file


def block_of(page: Path, name: str) -> str:
    """Returns what stands in a block of a page; empty where there is none."""
    text = page.read_text(encoding="utf-8")
    found = re.search(f"<!-- begin {name} -->\n(.*?)\n?<!-- end {name} -->", text, re.DOTALL)
    return found[1].strip() if found else ""


def _fronts(results: Path) -> dict[str, Front]:
    rows = _json(results / "benchmark" / "results.json")
    points: dict[str, list[str]] = {}
    for name in next(iter(rows.values())):
        if is_point(name):
            points.setdefault(name.partition("#")[0], []).append(name)
    return fronts_of(rows, points) if points else {}


def _front(docs: Path) -> str:
    found = (docs / "images" / FRONTS_PLOT).is_file()
    return f"![Efficiency at every level of violations](images/{FRONTS_PLOT})" if found else ""


def _answer(results: Path) -> str:
    return answer(_fronts(results), SUBJECT)


def _levels(results: Path) -> str:
    fronts = _fronts(results)
    return levels_table(fronts, SUBJECT) if fronts else ""


def _comparison(results: Path) -> str:
    return _as_made(results / "benchmark" / "results.md").read_text(encoding="utf-8")


def _facts(results: Path) -> str:
    """Returns what the comparison was run on, as its own page says it."""
    found = re.search(r"^- (\d+ scenarios.*)$", _comparison(results), re.MULTILINE)
    return f"What was run: {found[1]}." if found else ""


def _requirements(results: Path) -> str:
    text = _comparison(results)
    part = text.partition(f"## What is required of `{SUBJECT}`")[2].partition("\n## ")[0]
    rows = [_cells(line) for line in part.splitlines() if line.startswith("|")][2:]
    if not rows:
        return ""
    missed = [row[0] for row in rows if "no" in row[-1] and "not" not in row[-1]]
    met = sum(row[-1] == "yes" for row in rows)
    sentence = f"Of {len(rows)} requirements that were written down for the agent it meets {met}."
    return sentence + (f" Missed: {'; '.join(missed)}." if missed else "")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _plant(docs: Path) -> str:
    """Returns how many goals are met, and the rows of whole servers on what was left out."""
    table = block_of(docs / "validation.md", "targets")
    rows = [_cells(line) for line in table.splitlines()][2:]
    with_goal = [row for row in rows if row[2] != "–"]
    met = sum(row[4] == "yes" for row in with_goal)
    shown = [
        row
        for row in rows
        if any(word in row[0] for word in _PLANT_ROWS)
        and _FAMILY not in row[0]
        and "its sign" not in row[0]
        and row[2] != "–"
    ]
    if not shown:
        return ""
    head = ["what", "rows", "goal", "measured", "met"]
    sentence = f"Of {len(with_goal)} goals {met} are met. Medians of the absolute error:"
    return f"{sentence}\n\n{markdown_table(head, shown)}"


def _claims(results: Path) -> str:
    claims = _json(results / "figures" / "claims.json")
    counted = Counter(claim["verdict"] for claim in claims)
    counts = ", ".join(f"{counted[verdict]} {verdict}" for verdict in VERDICTS)
    rows = [
        [claim["figure"], claim["claim"], _value(claim, "paper"), _value(claim, "ours")]
        for claim in claims
        if claim["verdict"] == NOT_REPRODUCED
    ]
    text = f"{len(claims)} claims: {counts}."
    if not rows:
        return text
    table = markdown_table(["figure", "not reproduced", "paper", "ours"], rows)
    return f"{text}\n\n{table}"


def _value(claim: dict[str, Any], key: str) -> str:
    value = claim[key]
    values = value if isinstance(value, list) else [value]
    return " to ".join(f"{one:.3g}" if isinstance(one, float) else str(one) for one in values)


def _mechanisms(results: Path) -> str:
    """Returns a line for each claim: what was tried, and what brings it back."""
    made = _as_made(results / "figures" / "mechanisms.csv")
    with made.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = []
    for claim, own in _by_claim(rows):
        back = [row["mechanism"] for row in own if row["verdict"] == REPRODUCED]
        values = [f"{row['ours'].partition(' ')[0]} ({row['mechanism']})" for row in own]
        said = f"brought back by {'; '.join(back)}" if back else "brought back by nothing tried"
        lines.append(f"- {claim} (paper: {own[0]['paper']}): {said}. Tried: {'; '.join(values)}.")
    return "\n".join(lines)


def _by_claim(rows: list[dict[str, str]]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    for claim in dict.fromkeys(row["claim"] for row in rows):
        yield claim, [row for row in rows if row["claim"] == claim]
