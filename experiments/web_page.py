"""A run or a comparison as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.errors import ConfigurationError
from experiments.execution import PICTURE_FILE, SUMMARY_FILE

COMPARISON_FILE = "comparison.json"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px; }
small { color: #777; }
"""
_SHOWN = (
    ("tokens_per_joule", "Tokens per joule (GPUs)"),
    ("tokens_per_joule_relative", "… relative to Baseline"),
    ("tokens_per_joule_system", "Tokens per joule (node)"),
    ("throughput_tok_s", "Output tokens/s"),
    ("power_mean_w", "Mean power, W"),
    ("qos_violation_rate", "QoS violations, against Baseline"),
    ("qos_violation_rate_backlog", "QoS violations, backlog-aware"),
    ("qos_violation_rate_plain", "QoS violations, plain"),
    ("slo_violation_rate", "Latency-SLO violations"),
    ("ttft_p50_s", "TTFT median, s"),
    ("ttft_p99_s", "TTFT p99, s"),
    ("tpot_p50_s", "TPOT median, s"),
    ("tpot_p99_s", "TPOT p99, s"),
    ("cap_binding_fraction", "Time the cap binds"),
    ("knob_changes", "Knob changes"),
    ("requests_finished", "Requests finished"),
    ("requests_rejected", "Requests rejected"),
)


def web_page(directory: Path) -> str:
    """Returns the page of a folder that a run or a comparison wrote.

    Raises:
        ConfigurationError: The folder holds neither, or a file is damaged.
    """
    if (directory / SUMMARY_FILE).is_file():
        return _run(directory, _read(directory / SUMMARY_FILE))
    if (directory / COMPARISON_FILE).is_file():
        return _comparison(directory, _read(directory / COMPARISON_FILE))
    raise ConfigurationError(
        f"{directory}: holds neither {SUMMARY_FILE} nor {COMPARISON_FILE}; name the folder of a "
        "finished run or comparison"
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{file}: damaged ({error})") from error
    return content


def _run(directory: Path, summary: Mapping[str, Any]) -> str:
    rows = [(label, [_number(summary.get(key))]) for key, label in _SHOWN if key in summary]
    parts = [
        f"<p>Seed {summary['seed']}, {summary['duration_s']:g} s; power is "
        f"{html.escape(str(summary.get('power_source', '')))}.</p>",
        _picture(directory / PICTURE_FILE),
        _table(["Figure", "Value"], rows),
    ]
    for name, node in (summary.get("nodes") or {}).items():
        own = [(label, [_number(node.get(key))]) for key, label in _SHOWN if key in node]
        parts += [f"<h2>{html.escape(name)}</h2>", _table(["Figure", "Value"], own)]
    config = directory / "config.yaml"
    if config.is_file():
        parts += ["<h2>Configuration</h2>", _verbatim(config.read_text(encoding="utf-8"))]
    return _page(str(summary["controller"]), parts, summary.get("provenance"))


def _comparison(directory: Path, found: Mapping[str, Any]) -> str:
    controllers: Mapping[str, Any] = found["controllers"]
    names = list(controllers)
    rows = []
    for key, label in _SHOWN:
        cells = [controllers[name].get(key) for name in names]
        if any(cell is not None for cell in cells):
            rows.append((label, [_interval(cell) for cell in cells]))
    parts = [
        f"<p>Interquartile mean over {len(found['seeds'])} seeds, 95 % bootstrap interval.</p>",
        _picture(directory / "comparison.png"),
        _table(["Figure", *names], rows),
    ]
    for name in names:
        pictures = sorted((directory / "runs" / name).glob(f"seed_*/{PICTURE_FILE}"))
        if pictures:
            title = f"{html.escape(name)}, {pictures[0].parent.name.replace('_', ' ')}"
            parts += [f"<h2>{title}</h2>", _picture(pictures[0])]
    return _page("Comparison", parts, found.get("provenance"))


def _page(title: str, parts: list[str], provenance: Any) -> str:
    facts = json.dumps(provenance, indent=1) if provenance else "not recorded"
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n{body}\n"
        f"<h2>Provenance</h2>{_verbatim(facts)}</body></html>\n"
    )


def _picture(file: Path) -> str:
    if not file.is_file():
        return ""
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="{html.escape(file.stem)}" src="data:image/png;base64,{data}">'


def _table(head: list[str], rows: list[tuple[str, list[str]]]) -> str:
    first, *others = (html.escape(text) for text in head)
    lines = ["<tr><th>" + first + "</th>" + "".join(f'<th class="n">{t}</th>' for t in others)]
    for label, cells in rows:
        numbers = "".join(f'<td class="n">{cell}</td>' for cell in cells)
        lines.append(f"<tr><td>{html.escape(label)}</td>{numbers}")
    return "<table>" + "</tr>\n".join(lines) + "</tr></table>"


def _verbatim(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def _interval(cell: Mapping[str, float] | None) -> str:
    if cell is None:
        return "–"
    ends = f"{_number(cell['ci_low'])} … {_number(cell['ci_high'])}"
    return f"{_number(cell['iqm'])}<br><small>{ends}</small>"
