"""Trackers: where a run is shown besides the files it writes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from typing_extensions import override

from envs.errors import ConfigurationError
from envs.masking import Masking
from envs.user_paths import user_path
from experiments.records.interval_table import Row

_PROJECT = "pals-gym"
_OLD_MODES = {"dryrun": "offline", "run": "online"}
"""Names of modes that Weights & Biases still takes from ``WANDB_MODE``."""


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

    @property
    def run_id(self) -> str:
        """A name that the same run has again: of its folder and its configuration."""
        content = json.dumps(
            [str(self.directory.resolve()), self.config], sort_keys=True, default=str
        )
        return hashlib.sha256(content.encode()).hexdigest()[:12]


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
    """A run in Weights & Biases; a training's bundle becomes an artifact when it ends.

    Args:
        run: The run.
        directory: Its folder.
    """

    def __init__(self, run: Any, directory: Path) -> None:
        self._run = run
        self._bundle = directory / "bundle"

    def ends(self) -> None:
        """Sends the bundle, if the run has made one."""
        import wandb

        if self._bundle.is_dir():
            artifact = wandb.Artifact(f"bundle-{self._run.id}", type="model")
            artifact.add_dir(str(self._bundle))
            self._run.log_artifact(artifact)

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

    ``WANDB_MODE=offline`` or ``wandb offline`` needs neither account nor network; ``wandb sync``
    uploads later. A run that is open in this process stays open and gets nothing of ours, unless
    it is to be joined. A run's id follows from its folder and configuration, so that what is sent
    again goes to the same run. The command line is not sent, because it may hold secrets. What W&B
    writes on this machine is below the run's folder, or below ``WANDB_DIR`` where that is set.

    Attributes:
        project: Project that the run belongs to; ``None`` takes that of ``WANDB_PROJECT`` or of
            the user's settings of Weights & Biases, and ``pals-gym`` where there is none.
        entity: Account or team; ``None`` takes the default one.
        group: Runs of one group are shown together; ``None`` for no group.
        tags: Tags of the run.
        mode: ``online``, ``offline`` or ``disabled``; ``None`` takes ``WANDB_MODE``, or what
            ``wandb offline`` has set, and online where neither is set.
        join: Whether a run that is open already, such as a sweep's, gets rows and summary.
    """

    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    mode: str | None = None
    join: bool = False

    @override
    @contextmanager
    def follow(self, facts: RunFacts) -> Iterator[TrackedRun]:
        """Opens a run in Weights & Biases, and marks it as failed if the body raises.

        A run that is joined is left open, for those who opened it.

        Raises:
            ConfigurationError: Weights & Biases refuses, for want of an account for example.
        """
        import wandb

        opened: Any = wandb.run
        if self.join and opened is not None:
            opened.config.update(dict(facts.config), allow_val_change=True)
            joined = _WandbRun(opened, facts.directory)
            yield joined
            joined.ends()
            return
        mode, masking = self._mode(), Masking()
        folder = self._folder(facts.directory)
        try:
            run = wandb.init(
                project=self.project or wandb.setup().settings.project or _PROJECT,
                entity=self.entity,
                group=self.group,
                tags=[masking.text(tag) for tag in self.tags] or None,
                name=facts.name,
                id=facts.run_id,
                resume=None if mode == "offline" else "allow",
                dir=str(folder),
                config=dict(facts.config),
                mode=mode,
                settings=wandb.Settings(
                    console="off",
                    silent=True,
                    reinit="create_new",
                    x_disable_meta=True,
                    disable_git=True,
                ),
            )
        except ValueError as error:  # a variable such as WANDB_INIT_TIMEOUT makes no sense
            raise ConfigurationError(f"tracker=wandb: {error}") from error
        except wandb.errors.Error as error:
            raise ConfigurationError(
                f"tracker=wandb: {str(error).rstrip('.')}. Log in with 'wandb login', or set "
                "WANDB_MODE=offline"
            ) from error
        try:
            tracked = _WandbRun(run, facts.directory)
            yield tracked
            tracked.ends()
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()

    def _folder(self, run: Path) -> Path:
        """Returns the folder to write into; W&B would take a temporary one without a word."""
        own = os.environ.get("WANDB_DIR")
        if not own:
            return run
        folder = user_path(own, "WANDB_DIR")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"WANDB_DIR: cannot write into {folder} ({error.strerror}); set it to a folder "
                "that can be written, or unset it to have W&B's files in the run's folder"
            ) from error
        return folder

    def _mode(self) -> Any:
        modes = ("online", "offline", "disabled", "shared")
        given = os.environ.get("WANDB_MODE")
        if self.mode is None and given is not None and not given.strip():
            raise ConfigurationError(
                "WANDB_MODE: is set, but empty; set it to online, offline or disabled, or unset it"
            )
        mode = self.mode or _OLD_MODES.get(given or "", given)
        if mode is not None and mode not in modes:
            raise ConfigurationError(
                f"tracker.mode (or WANDB_MODE): must be one of {', '.join(modes)}, got {mode!r}"
            )
        return mode
