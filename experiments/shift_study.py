"""Who holds when the server is not what it was: ``python -m experiments.shift_study``."""

from __future__ import annotations

from pathlib import Path

from experiments.app.application import application
from experiments.planning.shifts import ShiftConfig, shift_entries, shift_report
from experiments.planning.study import recorded_study


@application("shift_study", ShiftConfig)
def main(config: ShiftConfig, directory: Path) -> None:
    """Runs all shifts, writes ``shift_study.md`` and ``shift_study.json``."""
    recorded_study(config, shift_entries(config), directory, "shift_study", shift_report)


if __name__ == "__main__":
    main()
