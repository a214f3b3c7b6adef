"""Further trackers: TensorBoard and MLflow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from envs.errors import ConfigurationError
from experiments.records.interval_table import Row
from experiments.records.tracking import RunFacts, TrackedRun, Tracker

_LONGEST = 500
"""Characters of a parameter that MLflow keeps."""
_UNNAMABLE = re.compile(r"[^\w\-. :/]")
"""What MLflow takes in no name."""


class _TensorBoardRun(TrackedRun):
    """A run in TensorBoard."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    @override
    def interval(self, number: int, row: Row) -> None:
        for name, value in row.items():
            if value is not None:
                self._writer.add_scalar(f"interval/{name}", value, number)

    @override
    def finished(self, summary: Mapping[str, Any], plot: Path) -> None:
        for name, value in _numbers(summary).items():
            self._writer.add_scalar(f"summary/{name}", value, 0)


@dataclass(kw_only=True)
class TensorBoard(Tracker):
    """TensorBoard: one row per interval and the summary, as scalars.

    Attributes:
        folder: Where its files go; ``None`` for ``tensorboard`` in the run's folder.
    """

    folder: str | None = None

    @override
    @contextmanager
    def follow(self, facts: RunFacts) -> Iterator[TrackedRun]:
        from torch.utils.tensorboard import SummaryWriter

        place = Path(self.folder) / facts.name if self.folder else facts.directory / "tensorboard"
        with SummaryWriter(str(place)) as writer:  # type: ignore[no-untyped-call]
            writer.add_text("configuration", _lines(facts.config))  # type: ignore[no-untyped-call]
            yield _TensorBoardRun(writer)


class _MlflowRun(TrackedRun):
    """A run in MLflow."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._id = client, run_id

    @override
    def interval(self, number: int, row: Row) -> None:
        from mlflow.entities import Metric

        known = {name: value for name, value in row.items() if value is not None}
        time_ms = int(1000.0 * known["time_s"])
        metrics = [Metric(name, value, time_ms, number) for name, value in known.items()]
        self._client.log_batch(self._id, metrics=metrics)

    @override
    def finished(self, summary: Mapping[str, Any], plot: Path) -> None:
        for name, value in _numbers(summary).items():
            self._client.log_metric(self._id, f"summary.{name}", value)
        if plot.is_file():
            self._client.log_artifact(self._id, str(plot))


@dataclass(kw_only=True)
class Mlflow(Tracker):
    """MLflow: the configuration, one row per interval, the summary and the plot.

    A run that is open in this process stays open and gets nothing of ours.

    Attributes:
        uri: Where MLflow keeps runs; ``None`` takes ``MLFLOW_TRACKING_URI``, or a database in the
            run's folder.
        experiment: Name of the experiment that the run belongs to.
    """

    uri: str | None = None
    experiment: str = "pals-gym"

    @override
    @contextmanager
    def follow(self, facts: RunFacts) -> Iterator[TrackedRun]:
        from mlflow.tracking import MlflowClient

        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or _own(facts.directory)
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(self.experiment)
        experiment = (
            found.experiment_id
            if found
            else client.create_experiment(self.experiment, artifact_location=_artifacts(uri))
        )
        run_id = client.create_run(experiment, run_name=facts.name).info.run_id
        for key, value in _flat(facts.config):
            client.log_param(run_id, _UNNAMABLE.sub("_", key), str(value)[:_LONGEST])
        try:
            yield _MlflowRun(client, run_id)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)


def _own(directory: Path) -> str:
    """Returns the address of a database in a run's own folder.

    Raises:
        ConfigurationError: An address cannot name it: what follows a question mark is no name.
    """
    file = directory.resolve() / "mlflow.db"
    if "?" in str(file):
        raise ConfigurationError(
            f"tracker: no database can be kept in {directory}, whose name has a question mark; "
            "name one with tracker.uri"
        )
    return f"sqlite:///{file}"


def _artifacts(uri: str) -> str | None:
    """Returns where files go: beside a database, not in the current folder; a server knows."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///")).resolve().with_name("mlflow_files").as_uri()


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics of a summary that are numbers."""
    return {
        name: float(value)
        for name, value in summary.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _flat(values: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every value with its full key."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{outer}{key}.")
        else:
            yield f"{outer}{key}", value


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(f"    {key}: {value}" for key, value in _flat(values))
