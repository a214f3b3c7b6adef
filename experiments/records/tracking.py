"""Trackers: where a run is shown besides the files it writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from typing_extensions import override

from envs.errors import ConfigurationError
from experiments.records.interval_table import Row


@dataclass(frozen=True)
class RunFacts:
    """What a tracker is told about a run at its beginning.

    Attributes:
        name: Short name for people.
        directory: The run's folder.
        config: Its configuration as plain values.
    """

    name: str
    directory: Path
    config: Mapping[str, Any]


class TrackedRun(Protocol):
    """A run in a tracker."""

    def interval(self, number: int, row: Row) -> None:
        """Takes the row of an interval."""

    def finished(self, summary: Mapping[str, Any], plot: Path) -> None:
        """Takes the summary and the plot of a run that has finished."""


@runtime_checkable
class Tracker(Protocol):
    """Follows runs; chosen in ``conf/tracker``."""

    def follow(self, facts: RunFacts) -> contextlib.AbstractContextManager[TrackedRun]:
        """Opens a run and closes it at the end, marked as failed if the body raises."""


class _Nowhere(TrackedRun):
    """A run that is shown nowhere."""

    @override
    def interval(self, number: int, row: Row) -> None: ...

    @override
    def finished(self, summary: Mapping[str, Any], plot: Path) -> None: ...


@dataclass(kw_only=True)
class Files(Tracker):
    """Nothing beyond the files that every run writes."""

    @override
    @contextmanager
    def follow(self, facts: RunFacts) -> Iterator[TrackedRun]:
        yield _Nowhere()


class _WandbRun(TrackedRun):
    """A run in Weights & Biases."""

    def __init__(self, run: Any) -> None:
        self._run = run

    @override
    def interval(self, number: int, row: Row) -> None:
        known = {key: value for key, value in row.items() if value is not None}
        self._run.log(known, step=number, commit=True)

    @override
    def finished(self, summary: Mapping[str, Any], plot: Path) -> None:
        import wandb

        if plot.is_file():  # without matplotlib there is none
            self._run.log({"plot": wandb.Image(str(plot))})
        self._run.summary.update(dict(summary))


@dataclass(kw_only=True)
class Wandb(Tracker):
    """Weights & Biases: the configuration, one row per interval, the summary and the plot.

    ``WANDB_MODE=offline`` needs neither account nor network; ``wandb sync`` uploads later.

    Attributes:
        project: Project that the run belongs to.
        entity: Account or team; ``None`` takes the default one.
        group: Runs of one group are shown together; ``None`` for no group.
        tags: Tags of the run.
        mode: ``online``, ``offline`` or ``disabled``; ``None`` takes ``WANDB_MODE``, and
            online when that is not set.
    """

    project: str = "pals-gym"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    mode: str | None = None

    @override
    @contextmanager
    def follow(self, facts: RunFacts) -> Iterator[TrackedRun]:
        """Opens a run in Weights & Biases, and marks it as failed if the body raises.

        Raises:
            ConfigurationError: Weights & Biases refuses, for want of an account for example.
        """
        import wandb

        try:
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group,
                tags=self.tags,
                name=facts.name,
                dir=str(facts.directory),
                config=dict(facts.config),
                mode=self._mode(),
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.errors.Error as error:
            raise ConfigurationError(
                f"tracker=wandb: {error}. Log in with 'wandb login', or set WANDB_MODE=offline"
            ) from error
        try:
            yield _WandbRun(run)
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()

    def _mode(self) -> Any:
        modes = ("online", "offline", "disabled", "shared")
        mode = self.mode or os.environ.get("WANDB_MODE") or "online"
        if mode not in modes:
            raise ConfigurationError(
                f"tracker.mode (or WANDB_MODE): must be one of {', '.join(modes)}, got {mode!r}"
            )
        return mode
