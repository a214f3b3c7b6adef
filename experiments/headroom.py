"""How much is possible, and what others reach of it: ``python -m experiments.headroom``."""

from __future__ import annotations

from pathlib import Path

from experiments.app.application import application
from experiments.planning.bound import (
    HeadroomConfig,
    bound_entries,
    bound_report,
    draw_bound,
    planners_of,
)
from experiments.planning.study import recorded_study


@application("headroom", HeadroomConfig)
def main(config: HeadroomConfig, directory: Path) -> None:
    """Sweeps price and search, writes ``headroom.md``, ``headroom.json`` and the plot."""
    rows = recorded_study(config, bound_entries(config), directory, "headroom", bound_report)
    draw_bound(rows, list(planners_of(config)), directory / "headroom.png")


if __name__ == "__main__":
    main()
