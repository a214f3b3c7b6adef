"""Records a run while it lasts and writes its files at the end: one server's or a cluster's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from envs import catalog
from envs.cache import atomic_write_text
from envs.masking import Masking
from envs.scenario import Scenario
from experiments.evaluation.metrics import Summary, write_json
from experiments.records.description import DESCRIPTION_FILE
from experiments.records.hashing import file_digest
from experiments.records.interval_table import IntervalTable, Row
from experiments.records.journal import JOURNAL_FILE, Journal
from experiments.records.provenance import provenance, with_content_hash
from experiments.records.replacement import replaced_together
from experiments.records.tracking import RunFacts, TrackedRun, Tracker
from experiments.runs.options import RunOptions, run_record

OnProgress = Callable[[str, int, int], None]
SUMMARY_FILE = "summary.json"
INTERVALS_FILE = "intervals.parquet"
INTERVALS_HASH = "intervals_hash"
"""Key of a summary's provenance: the hash of the bytes of :data:`INTERVALS_FILE`."""
PLOT_FILE = "run.png"
CONFIG_FILE = "config.yaml"
_FILES = (INTERVALS_FILE, PLOT_FILE, CONFIG_FILE, DESCRIPTION_FILE, SUMMARY_FILE)


class RunRecorder:
    """One run's record: its folder, its tracker, and the rows of the intervals so far.

    Args:
        scenario: What is controlled.
        options: How it is run.
        directory: The run's folder.
        on_progress: Called with what is being done, how much is done and how much there is.
        live: Whether time that has passed cannot be had again: every interval is then written
            to ``intervals.jsonl`` at once, for a process that is killed.
        description: What is simulated, for ``describe.json``; ``None`` for live servers.

    Raises:
        ConfigurationError: The tracker, or what has to be written down, is wrong.
    """

    def __init__(
        self,
        scenario: Scenario,
        options: RunOptions,
        directory: Path,
        on_progress: OnProgress,
        *,
        live: bool,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self._options = options
        self._record = run_record(scenario, options)
        self._masking = Masking(self._record)
        self._tracker: Tracker = catalog.build("tracker", options.tracker)
        self._tell = on_progress
        self._intervals = max(1, round(scenario.duration_s / scenario.interval_s))
        self._live = live
        self._description = description
        self._journal: Journal | None = None
        self._tracked: TrackedRun | None = None

    @contextmanager
    def following(self) -> Iterator[RunRecorder]:
        """Opens the run in its tracker; the episode, and then :meth:`finish`, belong inside."""
        facts = RunFacts(
            f"{self._options.controller_name}-{self._options.seed}",
            self.directory,
            self._masking(self._record),
        )
        if self._live:
            self._journal = Journal(self.directory / JOURNAL_FILE)
        with self._tracker.follow(facts) as self._tracked:
            yield self

    def on_interval(self, number: int, row: Row) -> None:
        """Takes the row of an interval."""
        if self._journal is not None:
            self._journal.append(row)
        if self._tracked is not None:
            self._tracked.interval(number, row)
        self._tell(self._options.controller_name, number + 1, self._intervals)

    def keep(self, rows: IntervalTable) -> None:
        """Writes what there is of an episode that failed."""
        if len(rows):

            def write(folder: Path) -> None:
                rows.write_parquet(folder / INTERVALS_FILE)

            files = (INTERVALS_FILE, SUMMARY_FILE)
            with replaced_together(self.directory, files, write, private=self._live):
                pass  # there is no summary of it
        self._close_journal()

    def finish(
        self,
        metrics: Mapping[str, Any],
        write_intervals: Callable[[Path], None],
        draw: Callable[[Path], None],
    ) -> Summary:
        """Writes all files, the summary last of all: where that is, the run is complete.

        Args:
            metrics: The metrics of the episode.
            write_intervals: Writes the table of intervals into a file.
            draw: Draws the plot into a file.

        Returns:
            The summary.
        """
        summary = {
            "controller": self._options.controller_name,
            "seed": int(self._options.seed),
            **metrics,
            "provenance": provenance(self._record),
        }
        summary = dict(self._masking(summary))

        def write(folder: Path) -> None:
            write_intervals(folder / INTERVALS_FILE)
            where = summary["provenance"]
            where[INTERVALS_HASH] = file_digest(folder / INTERVALS_FILE)
            summary.update(with_content_hash(summary))
            draw(folder / PLOT_FILE)
            text = str(OmegaConf.to_yaml(OmegaConf.create(self._masking(self._record))))
            atomic_write_text(folder / CONFIG_FILE, text)
            if self._description is not None:
                write_json(folder / DESCRIPTION_FILE, self._description)
            write_json(folder / SUMMARY_FILE, summary)

        with replaced_together(self.directory, _FILES, write, private=self._live) as last:
            self._close_journal()
            if self._tracked is not None:
                self._tracked.finished(summary, self.directory / PLOT_FILE)
            last()
        return summary

    def _close_journal(self) -> None:
        """Takes the journal away; the record is whole by now."""
        if self._journal is not None:
            self._journal.remove()
