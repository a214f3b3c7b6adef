"""One run from its configuration to its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from baselines.base import Controller
from envs import catalog
from envs.cache import atomic_write_text
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.serving import ServingEnv
from envs.system import ServingSystem
from experiments.app.environment import is_simulated, make_env, runner_of
from experiments.app.settings import check_times
from experiments.evaluation.metrics import Summary, summarise, write_json
from experiments.evaluation.qos import add_reference
from experiments.evaluation.rollout import Episode, run_episode
from experiments.records.hashing import plain
from experiments.records.interval_table import IntervalTable, Row
from experiments.records.journal import JOURNAL_FILE, Journal
from experiments.records.provenance import provenance
from experiments.records.tracking import RunFacts, TrackedRun, Tracker
from experiments.runs.baseline import reference_tokens
from experiments.runs.interruption import sigterm_interrupts
from experiments.runs.preparation import RunPreparation

OnProgress = Callable[[str, int, int], None]
SUMMARY_FILE = "summary.json"
INTERVALS_FILE = "intervals.parquet"
PLOT_FILE = "run.png"
_NOT_SAVED = ("_target_", "controllers", "executor", "experiment", "seeds")


def execute(
    config: DictConfig,
    directory: Path,
    controller_name: str,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Runs one controller on one environment and writes the run's files.

    ``config.yaml``, ``intervals.parquet``, ``run.png`` and, last of all, ``summary.json``:
    where that is, the run is complete. Each file appears whole, and none before the episode
    is over; of an episode that failed there is only ``intervals.parquet``, as far as it came.
    On a live server ``intervals.jsonl`` grows while it runs, for a process that is killed.

    Args:
        config: A composed configuration of a run.
        directory: Where to write.
        controller_name: Name of the controller's choice, for the summary.
        on_progress: Called with what is being done, how much is done and how much there is.

    Returns:
        The summary.

    Raises:
        PalsError: The configuration is wrong, or the world failed.
    """
    tell = on_progress or (lambda what, done, total: None)
    check_times(config)
    runner = runner_of(config)
    if runner is not None:
        summary: Summary = catalog.locate(runner)(config, directory, controller_name, tell)
        return summary
    controller: Controller = catalog.build("controller", config.controller)
    facts = RunFacts(f"{controller_name}-{config.seed}", directory, plain(config))
    with sigterm_interrupts(not is_simulated(config)):
        env = make_env(config)
        try:
            return _episode(config, directory, controller_name, (env, controller), facts, tell)
        finally:
            env.close()


def _episode(
    config: DictConfig,
    directory: Path,
    name: str,
    parts: tuple[ServingEnv, Controller],
    facts: RunFacts,
    tell: OnProgress,
) -> Summary:
    """Prepares the controller, runs the episode and writes its files.

    A live episode that is interrupted is written as far as it came, with ``interrupted`` in its
    summary; the interruption goes on afterwards.
    """
    env, controller = parts
    tracker: Tracker = catalog.build("tracker", config.tracker)
    reference = reference_tokens(config)
    controller.bind(env.context)
    controller.prepare(RunPreparation(config, reference, tell))
    with tracker.follow(facts) as tracked:
        watcher = _Watcher(config, directory, name, tracked, tell)

        def written(episode: Episode, **more: Any) -> Summary:
            summary = {
                "controller": name,
                "seed": int(config.seed),
                **summarise(episode, env.context).to_dict(),
                **_live_facts(env.system),
                **more,
                "provenance": provenance(config),
            }
            _write(directory, config, episode, env.context, summary)
            watcher.close()
            tracked.finished(summary, directory / PLOT_FILE)
            write_json(directory / SUMMARY_FILE, summary)
            return summary

        try:
            episode = run_episode(
                env,
                controller,
                seed=config.seed,
                duration_s=config.duration,
                on_interval=watcher.on_interval,
            )
        except KeyboardInterrupt:
            env.close()  # what was found comes back first
            if watcher.is_live and len(watcher.seen):
                source = str(env.system.facts.get("power_source", ""))
                written(Episode(watcher.seen, env.system.latency(), source), interrupted=True)
            else:
                watcher.keep()
            raise
        except BaseException:
            watcher.keep()
            raise
        if reference is not None:
            add_reference(episode.table, reference, env.context.qos, config.interval)
        return written(episode)


class _Watcher:
    """Tells of every interval as it passes, and keeps it in case the episode fails."""

    def __init__(
        self,
        config: DictConfig,
        directory: Path,
        name: str,
        tracked: TrackedRun,
        tell: OnProgress,
    ) -> None:
        self._directory = directory
        self._name = name
        self._tracked = tracked
        self._tell = tell
        self._intervals = max(1, round(config.duration / config.interval))
        self.seen = IntervalTable()
        self.is_live = not is_simulated(config)
        self._journal = Journal(directory / JOURNAL_FILE) if self.is_live else None

    def on_interval(self, number: int, row: Row) -> None:
        """Takes the row of an interval."""
        self.seen.append(row)
        if self._journal is not None:
            self._journal.append(row)
        self._tracked.interval(number, row)
        self._tell(self._name, number + 1, self._intervals)

    def keep(self) -> None:
        """Writes what was recorded of an episode that failed."""
        if len(self.seen):
            (self._directory / SUMMARY_FILE).unlink(missing_ok=True)
            self.seen.write_parquet(self._directory / INTERVALS_FILE)
        self.close()

    def close(self) -> None:
        """Takes the journal away; the record is whole by now."""
        if self._journal is not None:
            self._journal.remove()


def _write(
    directory: Path,
    config: DictConfig,
    episode: Episode,
    context: ControlContext,
    summary: Summary,
) -> None:
    """Writes all files but the summary, which is taken away until they are there."""
    from experiments.runs.plot import draw_run

    (directory / SUMMARY_FILE).unlink(missing_ok=True)
    episode.table.write_parquet(directory / INTERVALS_FILE)
    draw_run(episode.table, context, directory / PLOT_FILE, summary["controller"])
    atomic_write_text(directory / "config.yaml", saved_config(config))


def _live_facts(system: ServingSystem) -> Summary:
    """Returns what a live server tells of itself, and what it recovered from."""
    if not system.facts:
        return {}
    return {"server": system.facts, "recoveries": system.events}


def saved_config(config: DictConfig) -> str:
    """Returns a run's configuration as YAML, resolved, without what is only a comparison's."""
    kept = {key: value for key, value in plain(config).items() if key not in _NOT_SAVED}
    return str(OmegaConf.to_yaml(OmegaConf.create(kept)))


def finished_summary(config: DictConfig, directory: Path) -> Summary | None:
    """Returns the summary in a folder if it is that of this very configuration and code.

    Raises:
        ConfigurationError: The file is damaged.
    """
    file = directory / SUMMARY_FILE
    if not file.is_file():
        return None
    try:
        summary: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        made_by = summary["provenance"]
    except (ValueError, KeyError) as error:
        raise ConfigurationError(f"{file}: damaged ({error}); delete it") from error
    now = provenance(config)
    same = ("version", "configuration_hash", "calibration_hash", "code_hash", "agent_hash")
    if summary.get("interrupted"):
        return None
    return summary if all(made_by.get(key) == now[key] for key in same) else None
