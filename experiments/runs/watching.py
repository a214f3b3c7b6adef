"""What a run tells those who watch it."""

from __future__ import annotations

from typing import Protocol

from envs.context import ControlContext
from experiments.records.interval_table import Row


class Watcher(Protocol):
    """Watches a run, interval by interval, and changes nothing of it."""

    def begins(self, context: ControlContext) -> None:
        """Takes the server whose intervals follow."""

    def interval(self, row: Row) -> None:
        """Takes the row of an interval."""
