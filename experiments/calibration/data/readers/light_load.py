"""Time to first token at light load by prompt length (``powertrace-derived/ttft_light_load.csv``).

Derived from runs published in powertrace-sim (vLLM 0.10 to 0.19): medians by prompt length, while
a handful of other requests decode.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.calibration.data.csv_table import optional_number, read_rows
from experiments.calibration.data.readers.powertrace_runs import RUNS, Run

FILE = "powertrace-derived/ttft_light_load.csv"
_LENGTHS = "prompt_tokens"
NAMES = ("q8_a100_r2p5", "q8_h100_r4", "gemma26b_a100_tp2")
"""Runs of which TTFT is known by prompt length; a column is the name with ``_ms``."""


@dataclass(frozen=True)
class FirstToken:
    """A measured median TTFT.

    Attributes:
        name: Name of the run.
        run: The run.
        shortest: Shortest prompt.
        longest: Longest prompt.
        seconds: Median TTFT.
    """

    name: str
    run: Run
    shortest: float
    longest: float
    seconds: float


def read(folder: Path) -> list[FirstToken]:
    """Reads the file of a data folder.

    Raises:
        WorkloadError: The file cannot be read or lacks a column.
    """
    file = folder / FILE
    if not file.is_file():
        return []
    columns = {name: f"{name}_ms" for name in NAMES}
    found = []
    for _, row in read_rows(file, (_LENGTHS, *columns.values())):
        shortest, _, longest = str(row[_LENGTHS]).partition("-")
        for name, column in columns.items():
            milliseconds = optional_number(row, column)
            if milliseconds is not None:
                seconds = 1e-3 * milliseconds
                ends = float(shortest), float(longest)
                found.append(FirstToken(name, RUNS[name], *ends, seconds))
    return found
