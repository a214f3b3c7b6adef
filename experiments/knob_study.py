"""Power cap, SM clock, or both, for each controller: ``python -m experiments.knob_study``."""

from __future__ import annotations

from pathlib import Path

from experiments.app.application import application
from experiments.planning.knobs import KnobStudyConfig, knob_entries, knob_report
from experiments.planning.study import recorded_study


@application("knob_study", KnobStudyConfig)
def main(config: KnobStudyConfig, directory: Path) -> None:
    """Runs all of them, writes ``knob_study.md`` and ``knob_study.json``."""
    recorded_study(config, knob_entries(config), directory, "knob_study", knob_report)


if __name__ == "__main__":
    main()
