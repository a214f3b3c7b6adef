"""Writes the results of a validation: ``validation.json``, a readable table, and every row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from envs.cache import atomic_write_text
from experiments.calibration.data.measurement import Skipped
from experiments.calibration.fitting.simulate import QUANTITIES, measured
from experiments.calibration.reports.signed_errors import signed_tables
from experiments.calibration.validation.ablation_study import ablation_table
from experiments.calibration.validation.cap_response import cap_losses, clock_records, interior
from experiments.calibration.validation.cross_validation import SPLITS, Evaluated, relative_errors
from experiments.calibration.validation.first_tokens import first_token_table
from experiments.calibration.validation.host_time import host_records
from experiments.calibration.validation.kernel_errors import kernel_table
from experiments.calibration.validation.time_series import series_table
from experiments.calibration.validation.validate import Validation, records
from experiments.reporting.markdown import markdown_table

Record = dict[str, Any]
ERROR_COLUMNS = ("data set", "GPU", "split", "rows", *QUANTITIES)
MOST_MODELS = 12
"""Most models that a row of skipped rows names."""


def write_validation(validation: Validation, directory: Path) -> list[Record]:
    """Writes the files of a validation into a folder and returns the error records."""
    errors = records(validation.evaluated)
    caps = {
        "clock": clock_records(validation.evaluated),
        "tok_s_held_out": interior(validation.evaluated),
        "loss_from_best_to_lowest_cap": cap_losses(validation.evaluated),
    }
    host = host_records(validation.evaluated)
    _write_json(directory / "validation.json", errors)
    _write_json(directory / "host_bound.json", host)
    _write_json(directory / "caps.json", caps)
    if validation.ablations:
        _write_json(directory / "ablations.json", validation.ablations)
    atomic_write_text(directory / "rows.csv", rows_table(validation.evaluated).to_csv(index=False))
    atomic_write_text(
        directory / "skipped.csv", skipped_table(validation.skipped).to_csv(index=False)
    )
    text = as_markdown(errors, caps, host, validation)
    atomic_write_text(directory / "validation.md", text)
    return errors


def _write_json(file: Path, value: Any) -> None:
    atomic_write_text(file, json.dumps(value, indent=1, allow_nan=False) + "\n")


def rows_table(evaluated: Sequence[Evaluated]) -> pd.DataFrame:
    """Returns every simulated row with its measured and simulated values."""
    rows = [j.measurement for j in evaluated]
    table = pd.DataFrame(
        {
            "dataset": [m.dataset for m in rows],
            "gpu": [m.gpu.name for m in rows],
            "split": [j.split for j in evaluated],
            "run": [m.run for m in rows],
            "model": [m.model.name for m in rows],
            "family": [m.model.family for m in rows],
            "num_gpus": [m.parallelism.num_gpus for m in rows],
            "batch": [round(m.batch, 3) for m in rows],
            "cap_w": [m.cap_w for m in rows],
            "apart": [m.apart for m in rows],
        }
    )
    for name in (*QUANTITIES, "clock"):
        table[f"{name}_measured"] = measured(rows, name)
        table[f"{name}_simulated"] = [j.simulated[name] for j in evaluated]
        table[f"{name}_error_percent"] = 100.0 * relative_errors(evaluated, name)
    return table


def skipped_table(skipped: Sequence[Skipped]) -> pd.DataFrame:
    """Returns the skipped rows with their reasons."""
    columns = ["dataset", "line", "model", "reason"]
    return pd.DataFrame([(s.dataset, s.row, s.model, s.reason) for s in skipped], columns=columns)


def as_markdown(
    errors: Sequence[Record], caps: Record, host: Sequence[Record], validation: Validation
) -> str:
    """Returns the error tables as Markdown."""
    lines = ["# Simulated against measured", ""]
    lines += [f"- `{name}`: {meaning}" for name, meaning in SPLITS.items()]
    lines += ["", error_table(errors), ""]
    if caps["loss_from_best_to_lowest_cap"]:
        lines += ["## Power caps", "", cap_table(caps), ""]
    if host:
        lines += ["## Host-bound servers", "", host_table(host), ""]
    if validation.ablations:
        lines += ["## Ablations", "", ablation_table(validation.ablations), ""]
    if validation.kernels:
        lines += ["## Kernels", "", kernel_table(validation.kernels), ""]
    if validation.first_tokens:
        lines += [
            "## First tokens at light load",
            "",
            first_token_table(validation.first_tokens),
            "",
        ]
    if validation.points:
        lines += ["## Own measurements, row by row", "", signed_block(validation), ""]
    if validation.played:
        lines += ["## Power in time", "", series_table(validation.played), ""]
    lines += ["## Rows that could not be compared", "", skip_table(validation.skipped), ""]
    return "\n".join(lines)


def signed_block(validation: Validation) -> str:
    """Returns the signed errors of runs of ``experiments.measure_gpu``, row by row."""
    return signed_tables(validation.points, validation.idle, validation.replays)


def error_table(errors: Sequence[Record]) -> str:
    """Returns the median / mean errors in percent by data set, GPU and split."""
    return markdown_table(ERROR_COLUMNS, error_rows(errors))


def error_rows(errors: Sequence[Record]) -> list[list[str]]:
    """Returns the cells of :func:`error_table`."""
    rows = []
    keys = list(dict.fromkeys((e["dataset"], e["gpu"], e["split"]) for e in errors))
    for key in keys:
        cells = {e["quantity"]: e for e in errors if (e["dataset"], e["gpu"], e["split"]) == key}
        texts = [_cell(cells.get(name)) for name in QUANTITIES]
        count = max(e["n"] for e in cells.values())
        rows.append([*key, str(count), *texts])
    return rows


def _cell(record: Record | None) -> str:
    if record is None:
        return "–"
    return f"{record['median_ape']:.1f} / {record['mean_ape']:.1f}"


def cap_table(caps: Record) -> str:
    """Returns the table of losses under caps, and a list of the errors of clock and speed."""
    rows = [
        [
            loss["run"],
            loss["split"],
            f"{loss['measured_loss_percent']:.1f} %",
            f"{loss['simulated_loss_percent']:.1f} %",
        ]
        for loss in caps["loss_from_best_to_lowest_cap"]
    ]
    head = ["run", "split", "loss from best cap to lowest, measured", "simulated"]
    lines = [markdown_table(head, rows), ""]
    for name, error in caps["tok_s_held_out"].items():
        lines.append(
            f"- tok/s, held out, {name}: median {error['median_ape']:.2f} %, "
            f"largest {error['max_ape']:.2f} % ({error['n']:.0f} rows)"
        )
    for record in caps["clock"]:
        lines.append(
            f"- SM clock, {record['split']}: median {record['median_ape']:.1f} %, "
            f"mean {record['mean_ape']:.1f} % ({record['n']} rows)"
        )
    return "\n".join(lines)


def host_table(host: Sequence[Record]) -> str:
    """Returns the errors of the host-bound rows with and without host time."""
    head = [
        "GPU",
        "rows",
        "host time per step",
        "per sequence",
        "TPOT, physics alone",
        "with host time",
    ]
    rows = [
        [
            h["gpu"],
            str(h["rows"]),
            f"{h['step_ms']:.1f} ms",
            f"{h['sequence_ms']:.2f} ms",
            f"{h['tpot_median_ape_physics']:.1f} %",
            f"{h['tpot_median_ape_with_host']:.1f} %",
        ]
        for h in host
    ]
    return markdown_table(head, rows)


def skip_table(skipped: Sequence[Skipped]) -> str:
    """Returns the number of skipped rows by data set and reason, with their models."""
    groups: dict[tuple[str, str], list[str]] = {}
    for item in skipped:
        groups.setdefault((item.dataset, item.reason), []).append(item.model)
    rows = []
    for (dataset, reason), models in sorted(groups.items(), key=lambda g: -len(g[1])):
        names = sorted(set(models))
        more = f" and {len(names) - MOST_MODELS} more" if len(names) > MOST_MODELS else ""
        rows.append([dataset, str(len(models)), reason, ", ".join(names[:MOST_MODELS]) + more])
    return markdown_table(["data set", "rows", "reason", "models"], rows)
