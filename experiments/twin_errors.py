"""What a wrong model costs those who plan with it: ``python -m experiments.twin_errors``."""

from __future__ import annotations

from pathlib import Path

from experiments.app.application import application
from experiments.planning.errors import TwinErrorsConfig, error_entries, error_report
from experiments.planning.study import recorded_study


@application("twin_errors", TwinErrorsConfig)
def main(config: TwinErrorsConfig, directory: Path) -> None:
    """Runs all errors, writes ``twin_errors.md`` and ``twin_errors.json``."""
    recorded_study(config, error_entries(config), directory, "twin_errors", error_report)


if __name__ == "__main__":
    main()
