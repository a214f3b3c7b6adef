"""One self-contained HTML page about a run, a comparison or remade figures."""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from envs.cache import atomic_write_text
from envs.errors import ConfigurationError
from envs.safe_files import read_regular
from envs.strict_json import read_json
from experiments.evaluation.metric_table import (
    METRICS,
    RUN_TABLE,
    TOKENS_PER_JOULE_RELATIVE,
    Metric,
    applicable,
)
from experiments.records.made_files import refuse_edited
from experiments.records.provenance import content_hash
from experiments.reporting.numbers import ABSENT, format_number

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 0 auto; max-width: 72rem;
       padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ddd; }
.sub { color: #666; margin: 0 0 1rem; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; border: 1px solid #eee; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #eee; text-align: left;
         vertical-align: top; }
th { background: #f6f6f6; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
small { color: #666; }
pre { background: #f8f8f8; padding: .8rem; overflow-x: auto; font-size: .8rem; }
summary { cursor: pointer; color: #0072B2; }
@media print { details > summary { display: none; } }
"""
_LONGEST_TABLE = 200
_MOST_BYTES = 256 << 20


def write_report(directory: Path, file: Path | None = None) -> Path:
    """Writes the page about a folder's results.

    Args:
        directory: Folder of a run, a comparison or figures.
        file: Where the page goes; ``None`` puts ``report.html`` into the folder.

    Returns:
        The page.

    Raises:
        ConfigurationError: There is nothing to report on, or a file is damaged.
    """
    if not directory.is_dir():
        raise ConfigurationError(f"{directory}: no such folder")
    page = directory / "report.html" if file is None else file
    for name, write in (
        ("summary.json", _run),
        ("comparison.json", _comparison),
        ("claims.json", _figures),
    ):
        if (directory / name).is_file():
            refuse_edited(directory / name)
            atomic_write_text(page, _written(write, directory, directory / name))
            return page
    raise ConfigurationError(
        f"{directory}: nothing to report on: no summary.json (of a run), comparison.json (of a "
        "comparison) or claims.json (of figures)"
    )


def _read(file: Path) -> Any:
    return read_json(read_regular(file, _MOST_BYTES))


def _text(file: Path) -> str:
    try:
        return read_regular(file, _MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file}: damaged ({error}); make it again") from error


def _written(write: Callable[[Path, Any], str], directory: Path, file: Path) -> str:
    """Returns the page about what a file holds.

    Raises:
        ConfigurationError: The file is damaged.
    """
    try:
        return write(directory, _read(file))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"{file}: damaged ({reason}); make it again") from error


def _refuse_other_content(file: Path, result: Mapping[str, Any]) -> None:
    """Refuses a result whose numbers are not those that were written."""
    kept = result.get("provenance", {}).get("content_hash")
    if kept is not None and kept != content_hash(result):
        raise ConfigurationError(f"{file}: was edited after the run; make it again")


def _run(directory: Path, summary: Mapping[str, Any]) -> str:
    _refuse_other_content(directory / "summary.json", summary)
    metrics = applicable(RUN_TABLE, summary)
    rows = [[own.title, own.text(summary[own.key]), own.unit] for own in metrics]
    parts = [*_plots([directory / "run.png"]), _section("Metrics"),
             _table(("Metric", "Value", "Unit"), rows, numbers=(1,))]  # fmt: skip
    if summary.get("nodes"):
        parts += [_section("Nodes"), _by_name("Node", summary["nodes"], metrics)]
    if summary.get("events"):
        parts += [_section("Events"), "<ul>", *(f"<li>{escape(e)}</li>" for e in summary["events"]),
                  "</ul>"]  # fmt: skip
    parts += _configuration(directory) + _provenance(summary.get("provenance", {}))
    title = f"{summary['controller']}, seed {summary['seed']}"
    return _page(title, f"One run of {format_number(summary['duration_s'])} s", parts)


def _by_name(what: str, rows: Mapping[str, Any], metrics: Sequence[Metric]) -> str:
    """Returns a table with one column per name and one row per metric."""
    names = list(rows)
    body = [
        [metric.label, *(metric.text((rows[own] or {}).get(metric.key)) for own in names)]
        for metric in metrics
        if any((rows[own] or {}).get(metric.key) is not None for own in names)
    ]
    return _table((what, *names), body, numbers=range(1, len(names) + 1))


def _comparison(directory: Path, result: Mapping[str, Any]) -> str:
    _refuse_other_content(directory / "comparison.json", result)
    controllers: Mapping[str, Any] = result["controllers"]
    compared = list(controllers.values())
    body = [
        [escape(metric.label), *(_interval(own.get(metric.key), metric) for own in compared)]
        for metric in (METRICS[TOKENS_PER_JOULE_RELATIVE], *RUN_TABLE)
        if any(own.get(metric.key) for own in compared)
    ]
    seeds = len(result["seeds"])
    parts = [
        *_plots([directory / "comparison.png"]),
        _section("Metrics"),
        f"<p>Interquartile means over {seeds} seeds; below them 95 % bootstrap intervals.</p>",
        _table(("Metric", *controllers), body, numbers=range(1, len(controllers) + 1), plain=False),
    ]
    better = result.get("probability_of_improvement", {})
    if better:
        rows = [
            [name, *(_probability(row.get(other)) for other in controllers)]
            for name, row in better.items()
        ]
        parts += [_section("Probability of more tokens per joule than …"),
                  _table(("Controller", *controllers), rows,
                         numbers=range(1, len(controllers) + 1))]  # fmt: skip
    parts += _csv("Runs", directory / "comparison.csv")
    first = next(iter(sorted(directory.glob("runs/*/*/config.yaml"))), None)
    parts += _configuration(directory if first is None else first.parent)
    parts += _provenance(result.get("provenance", {}))
    return _page(f"{len(controllers)} controllers on {seeds} seeds", "A comparison", parts)


def _interval(cell: Mapping[str, Any] | None, metric: Metric) -> str:
    if cell is None:
        return ABSENT
    low, high = (metric.text(cell[end]) for end in ("ci_low", "ci_high"))
    return f"{metric.text(cell['iqm'])}<br><small>{low} … {high}</small>"


def _probability(cell: Mapping[str, Any] | None) -> str:
    return ABSENT if cell is None else f"{100 * cell['probability']:.0f} %"


def _figures(directory: Path, claims: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [c["figure"], c["claim"], _paper(c["paper"]), format_number(c["ours"]), _ends(c),
         c["verdict"], f"{c['reason']} Scenario: {c['scenario']}."]
        for c in claims
    ]  # fmt: skip
    head = ("Figure", "Claim", "Paper", "Ours", "Interval", "Verdict", "Why")
    parts = [_section("Claims"), _table(head, rows, numbers=(3,))] if rows else []
    for saved_plot in sorted(directory.glob("*.png")):
        parts += [_section(saved_plot.stem), *_plots([saved_plot])]
        parts += _csv("Data", saved_plot.with_suffix(".csv"))
    parts += _configuration(directory)
    file = directory / "provenance.json"
    parts += _provenance(_read(file)) if file.is_file() else []
    return _page("Figures and claims", f"{len(claims)} claims of arXiv:2605.21427", parts)


def _paper(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(f"{end:.4g}" for end in value)
    return value if isinstance(value, str) else f"{value:.4g}"


def _ends(claim: Mapping[str, Any]) -> str:
    if claim["low"] is None or claim["high"] is None:
        return ABSENT
    return f"{claim['low']:.4g} … {claim['high']:.4g}"


def _plots(files: Iterable[Path]) -> list[str]:
    return [
        f'<img alt="{escape(file.stem)}" src="data:image/png;base64,'
        f'{base64.b64encode(file.read_bytes()).decode("ascii")}">'
        for file in files
        if file.is_file()
    ]


def _csv(title: str, file: Path) -> list[str]:
    """Returns a table from a CSV file, folded, as far as a page should go."""
    if not file.is_file():
        return []
    refuse_edited(file)
    try:
        head, *rows = list(csv.reader(_text(file).splitlines(keepends=True))) or [[]]
    except csv.Error as error:
        raise ConfigurationError(f"{file}: damaged ({error}); make it again") from error
    shown_rows = rows[:_LONGEST_TABLE]
    more = (
        f"; the first {_LONGEST_TABLE} of {len(rows)} rows" if len(rows) > len(shown_rows) else ""
    )
    table = _table(head, [[_short(cell) for cell in row] for row in shown_rows])
    return [f"<details><summary>{escape(title)} ({file.name}{more})</summary>{table}</details>"]


def _short(cell: str) -> str:
    try:
        return f"{float(cell):.6g}" if cell else ABSENT
    except ValueError:
        return cell


def _configuration(directory: Path) -> list[str]:
    for file in (directory / "config.yaml", directory / ".hydra" / "config.yaml"):
        if file.is_file():
            text = escape(_text(file))
            return [_section("Configuration"),
                    f"<details open><summary>{file.name}</summary><pre>{text}</pre></details>",
                    ]  # fmt: skip
    return []


def _provenance(facts: Mapping[str, Any]) -> list[str]:
    rows = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            rows += [[f"{key}: {name}", str(own)] for name, own in value.items()]
        else:
            rows.append([key, str(value)])
    return [_section("Provenance"), _table(("What", "Value"), rows)] if rows else []


def _section(title: str) -> str:
    return f"<h2>{escape(title)}</h2>"


def _table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Iterable[int] = (),
    plain: bool = True,
) -> str:
    """Returns a table; ``plain`` cells are text, others are HTML already."""
    right = set(numbers)

    def cell(tag: str, index: int, text: str, escaped: bool) -> str:
        kind = ' class="n"' if index in right else ""
        return f"<{tag}{kind}>{escape(str(text)) if escaped else text}</{tag}>"

    lines = ["<tr>" + "".join(cell("th", i, t, True) for i, t in enumerate(head)) + "</tr>"]
    lines += [
        "<tr>" + "".join(cell("td", i, t, plain) for i, t in enumerate(row)) + "</tr>"
        for row in rows
    ]
    return '<div class="wide"><table>' + "\n".join(lines) + "</table></div>"


def _page(title: str, subtitle: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        f'<h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p>\n{body}\n'
        "</body></html>\n"
    )
