"""Controllers evaluated from plain Python: no command line, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from baselines.base import Controller
from envs.arguments import expect, unexpected
from envs.errors import ConfigurationError
from envs.factory import make_env
from envs.nearest import did_you_mean
from envs.scenario import Named, Scenario
from experiments.evaluation.aggregate import aggregated, metric_names
from experiments.evaluation.baseline import evaluated
from experiments.evaluation.decisions import Decisions
from experiments.evaluation.metrics import RunMetrics
from experiments.evaluation.rollout import run_episode
from experiments.profiling.sweep import ProfileConfig
from experiments.records.interval_table import IntervalTable
from experiments.runs.options import RunOptions, check_times, seed_list
from experiments.runs.preparation import prepared_controller
from experiments.runs.recorder import OnProgress

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class EvaluatedEpisode:
    """One episode of an evaluation.

    Attributes:
        seed: Its seed.
        metrics: Its metrics in SI units; what does not apply is ``None``.
        table: One row per control interval.
        decisions: How long the controller took, and what it tells of itself.
    """

    seed: int
    metrics: RunMetrics
    table: IntervalTable
    decisions: Decisions


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a controller achieved in a scenario.

    Attributes:
        controller: Its name.
        scenario: What it controlled.
        episodes: One per seed.
    """

    controller: str
    scenario: Scenario
    episodes: tuple[EvaluatedEpisode, ...]

    @property
    def seeds(self) -> list[int]:
        """The episodes' seeds."""
        return [episode.seed for episode in self.episodes]

    @property
    def metrics(self) -> dict[str, dict[str, Any] | None]:
        """Each metric over the seeds, as :func:`experiments.evaluation.aggregate.aggregated`."""
        rows = [episode.metrics.to_dict() for episode in self.episodes]
        return {name: aggregated([row[name] for row in rows]) for name in metric_names(rows[0])}

    def __getitem__(self, metric: str) -> float | None:
        """Returns a metric's interquartile mean over the seeds; ``None`` if it does not apply.

        Raises:
            KeyError: There is no such metric; the message has the one that was probably meant.
        """
        known = self.metrics
        if metric not in known:
            meant = did_you_mean(str(metric), known)
            raise KeyError(f"no metric {metric!r}{meant} (one of {', '.join(known)})")
        found = known[metric]
        return None if found is None else float(found["iqm"])

    @property
    def intervals(self) -> pandas.DataFrame:
        """The control intervals of all episodes, with their ``seed``."""
        import pandas

        frames = []
        for episode in self.episodes:
            table = episode.table
            frame = pandas.DataFrame({name: table[name] for name in table.names})
            frame.insert(0, "seed", episode.seed)
            frames.append(frame)
        return pandas.concat(frames, ignore_index=True)

    def to_dict(self) -> dict[str, Any]:
        """Returns controller, seeds, metrics and the metrics of each episode as plain values."""
        return {
            "controller": self.controller,
            "seeds": self.seeds,
            "metrics": self.metrics,
            "episodes": [
                {
                    "seed": episode.seed,
                    **episode.metrics.to_dict(),
                    **episode.decisions.summary(),
                }
                for episode in self.episodes
            ],
        }


def evaluate(
    controller: Named | Controller = "pals",
    scenario: Scenario | None = None,
    *,
    seeds: int | Sequence[int] = 5,
    profile: ProfileConfig | Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Lets a controller serve a scenario, and returns its metrics.

    The metrics equal those of ``python -m experiments.run`` and ``compare`` with the same
    settings. A controller that needs an offline profile gets one: it is made on the simulator
    when there is none in the cache.

    Args:
        controller: A controller, which is copied for every episode, a name in
            ``conf/controller`` or a mapping with the keys of such a file.
        scenario: What is controlled; the default is Mixtral-8x7B on four A100 at 70 % load.
        seeds: Number of seeds, counted from 0, or the seeds themselves.
        profile: How the offline profile is made, or where a finished one lies.
        on_progress: Called with what is being done, how much is done and how much there is.

    Raises:
        PalsError: A choice is wrong, or a live server failed.
    """
    _refuse_no_controller(controller)
    chosen = seed_list(seeds, 0)
    scenario = Scenario() if scenario is None else scenario
    expect("scenario", scenario, Scenario)
    if on_progress is not None and not callable(on_progress):
        raise unexpected("on_progress", "a function of (what, done, total)", on_progress)
    tell = on_progress or (lambda what, done, total: None)
    how = _profile(profile)
    name = controller_name(controller)
    episodes: list[EvaluatedEpisode] = []
    for seed in chosen:
        options = RunOptions(seed=seed, controller=controller, controller_name=name, profile=how)
        check_times(scenario, seed)
        tell(name, len(episodes), len(chosen))
        episodes.append(_episode(scenario, options, tell))
    return Evaluation(name, scenario, tuple(episodes))


def _refuse_no_controller(controller: Any) -> None:
    if isinstance(controller, type):
        name = controller.__name__
        raise ConfigurationError(f"controller: {name} is a class; give an object of it: {name}()")
    plain = isinstance(controller, str | Mapping | int | float | list | tuple)
    if not plain and controller is not None and not isinstance(controller, Controller):
        raise ConfigurationError(
            f"controller: {type(controller).__name__} has not all of predict, bind and prepare"
        )


def _profile(given: ProfileConfig | Mapping[str, Any] | None) -> ProfileConfig:
    if isinstance(given, ProfileConfig):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise ConfigurationError(f"profile: must hold keys and values, got {given!r}")
    known = [item.name for item in fields(ProfileConfig)]
    for key in given or {}:
        if key not in known:
            raise ConfigurationError(f"profile.{key}: no such key{did_you_mean(str(key), known)}")
    return ProfileConfig(**(given or {}))


def _episode(scenario: Scenario, options: RunOptions, tell: OnProgress) -> EvaluatedEpisode:
    env = make_env(scenario)
    try:
        controller, reference = prepared_controller(env, scenario, options, tell)
        episode = run_episode(env, controller, seed=options.seed, duration_s=scenario.duration_s)
        metrics = evaluated(episode, reference, env)
    finally:
        env.close()
    return EvaluatedEpisode(options.seed, metrics, episode.table, episode.decisions)


def controller_name(controller: Named | Controller) -> str:
    """Returns a short name of a controller: its choice's, or its class's."""
    if isinstance(controller, str):
        return controller
    if isinstance(controller, Mapping):
        named = controller.get("base") or str(controller.get("_target_", "")).rpartition(".")[2]
        return str(named)
    return type(controller).__name__
