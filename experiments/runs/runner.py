"""One run from its scenario to its files."""

from __future__ import annotations

from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.errors import NotRestoredError
from envs.factory import make_env
from envs.scenario import Scenario
from envs.serving import ServingEnv
from envs.system import ServingSystem
from experiments.cluster.runner import execute_cluster
from experiments.evaluation.baseline import evaluated
from experiments.evaluation.metrics import Summary
from experiments.evaluation.rollout import Episode, run_episode
from experiments.records.description import describe_scenario
from experiments.records.interval_table import IntervalTable, Row
from experiments.runs.interruption import heed_lost_sigterm, sigterm_interrupts
from experiments.runs.options import RunOptions, check_times
from experiments.runs.preparation import prepared_controller
from experiments.runs.recorder import OnProgress, RunRecorder
from experiments.runs.watching import Watcher


def execute(
    scenario: Scenario,
    options: RunOptions,
    directory: Path,
    on_progress: OnProgress | None = None,
    watcher: Watcher | None = None,
) -> Summary:
    """Runs one controller on one server, or one per node of a cluster, and writes the files.

    ``config.yaml``, ``intervals.parquet``, ``run.png``, ``describe.json`` (what was simulated, see
    :mod:`experiments.records.description`) and, last of all, ``summary.json``:
    where that is, the run is complete. Each file appears whole, and none before the episode
    is over; of an episode that failed there is only ``intervals.parquet``, as far as it came.
    On a live server ``intervals.jsonl`` grows while it runs, for a process that is killed.

    Args:
        scenario: What is controlled.
        options: Who controls it, and how it is run.
        directory: Where to write.
        on_progress: Called with what is being done, how much is done and how much there is.
        watcher: Is told every interval of a single server.

    Returns:
        The summary.

    Raises:
        PalsError: The configuration is wrong, or the world failed.
    """
    tell = on_progress or (lambda what, done, total: None)
    check_times(scenario, options.seed)
    if options.cluster is not None:
        return execute_cluster(scenario, options, directory, tell)
    return _execute_single(scenario, options, directory, tell, watcher)


def _execute_single(
    scenario: Scenario,
    options: RunOptions,
    directory: Path,
    tell: OnProgress,
    watcher: Watcher | None,
) -> Summary:
    live = not scenario.is_simulated
    description = None if live else describe_scenario(scenario)
    recorder = RunRecorder(scenario, options, directory, tell, live=live, description=description)
    # Who started a process of its own for a run may end it without ado.
    with sigterm_interrupts(live or parent_process() is None):
        env = make_env(scenario)
        try:
            return _episode(env, scenario, options, recorder, tell, watcher)
        finally:
            env.close()


def _episode(
    env: ServingEnv,
    scenario: Scenario,
    options: RunOptions,
    recorder: RunRecorder,
    tell: OnProgress,
    watcher: Watcher | None,
) -> Summary:
    """Prepares the controller, runs the episode and writes its files.

    A live episode that is interrupted is written as far as it came, with ``interrupted`` in its
    summary; the interruption goes on afterwards.
    """
    controller, reference = prepared_controller(env, scenario, options, tell)
    seen = IntervalTable()
    if watcher is not None:
        watcher.begins(env.context)

    def on_interval(number: int, row: Row) -> None:
        if watcher is not None:
            watcher.interval(row)
        recorder.on_interval(number, row)
        heed_lost_sigterm()

    def written(episode: Episode, baseline: NDArray[np.float64] | None, **more: Any) -> Summary:
        from experiments.runs.plot import draw_run

        metrics = evaluated(episode, baseline, env).to_dict()
        return recorder.finish(
            {**metrics, **episode.decisions.summary(), **_live_facts(env.system), **more},
            episode.table.write_parquet,
            lambda file: draw_run(episode.table, env.context, file, options.controller_name),
        )

    with recorder.following():
        try:
            episode = run_episode(
                env,
                controller,
                seed=options.seed,
                duration_s=scenario.duration_s,
                on_interval=on_interval,
                table=seen,
            )
        except KeyboardInterrupt:
            problem = _closed(env)  # what was found comes back first
            if not scenario.is_simulated and len(seen):
                source = str(env.system.facts.get("power_source", ""))
                written(Episode(seen, env.system.latency(), source), None, interrupted=True)
            else:
                recorder.keep(seen)
            if problem is not None:
                raise problem from None
            raise
        except BaseException:
            recorder.keep(seen)
            raise
        return written(episode, reference)


def _closed(env: ServingEnv) -> NotRestoredError | None:
    """Closes an environment; returns what could not be put back, which shall not lose a record."""
    try:
        env.close()
    except NotRestoredError as problem:
        return problem
    return None


def _live_facts(system: ServingSystem) -> Summary:
    """Returns what a live server tells of itself, and what it recovered from."""
    if not system.facts:
        return {}
    return {"server": system.facts, "recoveries": system.events}
