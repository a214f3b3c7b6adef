"""All controllers on the episodes of one scenario, each run once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from typing_extensions import override

from agents.bundle import find_bundle, read_bundle
from baselines.base import Controller, Outcome, Preparation
from baselines.fixed_knobs import FixedKnobs
from baselines.profile import Profile
from baselines.twin.future import Future
from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import build_server_spec
from envs.knobs import Knobs
from envs.safe_files import read_regular
from envs.scenario import Scenario, described
from envs.serving import ServingEnv
from envs.simulator.server_spec import ServerSpec
from envs.sources import computation_hash, short_hash
from envs.strict_json import read_json
from experiments.benchmarking.metrics import MetricRow
from experiments.evaluation.baseline import evaluated, outcome
from experiments.evaluation.batched_rollout import (
    Assignment,
    Episodes,
    run_batch,
    vector_of,
)
from experiments.evaluation.choices import with_knobs
from experiments.evaluation.future import future_of
from experiments.evaluation.metrics import write_json
from experiments.evaluation.suites import SuiteScenario
from experiments.profiling.store import find_profile
from experiments.profiling.sweep import ProfileConfig
from experiments.records.hashing import digest, plain
from experiments.records.reuse import Origin

_FORMAT = 3
"""Changes with the metrics of a run, so that kept runs are made again."""
_MOST_BYTES = 64 << 20
_LOOK_AHEAD_SEEDS = 2
"""Seeds whose fixed knobs are tried together: it bounds the memory."""


class LooksAhead(Exception):
    """A controller requested a look ahead, which belongs to one episode."""


class EpisodePreparation(Preparation):
    """What a controller may request before episodes that run together.

    Args:
        scenario: What is believed to be controlled.
        profile: How a profile is made.
        outlook: Outcomes of fixed knobs, one list per seed.
        futures: What will happen in each episode, by seed.
        seed_index: Which of the episodes; ``None`` when the controller serves them all.
    """

    def __init__(
        self,
        scenario: Scenario,
        profile: ProfileConfig,
        outlook: Callable[[list[Knobs]], list[list[Outcome]]],
        futures: Callable[[], list[Future]],
        seed_index: int | None,
    ) -> None:
        self._scenario = scenario
        self._profile = profile
        self._outlook = outlook
        self._futures = futures
        self._seed_index = seed_index

    @override
    def profile(self) -> Profile:
        return find_profile(self._scenario, self._profile)

    @override
    def evaluate(self, candidates: list[Knobs]) -> list[Outcome]:
        """Returns the outcomes of fixed knobs on one of the episodes.

        Raises:
            LooksAhead: The controller serves several episodes; each needs its own.
        """
        if self._seed_index is None:
            raise LooksAhead
        return self._outlook(candidates)[self._seed_index]

    @override
    def futures(self) -> list[Future]:
        futures = self._futures()
        return futures if self._seed_index is None else [futures[self._seed_index]]

    @override
    def twin(self) -> ServerSpec:
        return build_server_spec(self._scenario)


class ScenarioRuns:
    """All controllers on the episodes of one scenario.

    Args:
        shared: What all scenarios of a suite share.
        profile: How profiles are made.
        name: The scenario's name.
        chosen: The scenario of the suite.
        seeds: Seeds of the episodes.
        directory: Where results are kept, one file per controller.
        believe: What the operator believes the scenario to be: profiles and twins are made from
            that. ``None``: what it is.

    Attributes:
        name: The scenario's name.
        origins: Where each controller's results come from.
    """

    def __init__(
        self,
        shared: Scenario,
        profile: ProfileConfig,
        name: str,
        chosen: SuiteScenario,
        seeds: Sequence[int],
        directory: Path,
        believe: Callable[[Scenario], Scenario] | None = None,
    ) -> None:
        self.name = name
        self._seeds = list(seeds)
        self._directory = directory
        self._scenario = chosen.scenario(shared)
        self._believed = self._scenario if believe is None else believe(self._scenario)
        self._profile = profile
        self._chosen = chosen
        self._episodes: Episodes | None = None
        self._outcomes: dict[tuple[Knobs, ...], list[list[Outcome]]] = {}
        self._with_knobs: dict[str, ScenarioRuns] = {}
        self._believe = believe
        self._shared = shared
        self.origins: list[Origin] = []

    def run(self, name: str, choice: Any) -> list[MetricRow]:
        """Returns a controller's metrics on each episode, from an earlier run if there is one.

        Args:
            name: Name of the controller.
            choice: Its name in the catalogue, or a mapping; its key ``action`` is the encoding of
                actions where that is another one than all others'.

        Raises:
            ConfigurationError: A name cannot be that of a file.
        """
        for own in (self.name, name):
            _refuse_other_folders(own)
        choice, action = with_knobs(choice)
        if action is not None:
            return self._beside(action).run(name, choice)
        file = self._directory / self.name / f"{name}.json"
        key = self._key(choice)
        known, reason = _read(file, key)
        self.origins.append(Origin(f"{self.name}, {name}", known is not None, reason))
        if known is not None:
            return known
        episodes = self.episodes.run(self._assignments(choice))[self.name]
        rows: list[MetricRow] = [
            {**metrics.to_dict(), "controller": name, "seed": seed}
            for seed, metrics in zip(self._seeds, episodes, strict=True)
        ]
        write_json(file, {"key": key, "sha256": _content_hash(rows), "summaries": rows})
        return rows

    def _beside(self, action: Any) -> ScenarioRuns:
        """Returns the same episodes for controllers that may move other knobs."""
        key = digest(plain(action) if isinstance(action, Mapping) else action)
        if key not in self._with_knobs:
            runs = ScenarioRuns(
                replace(self._shared, action=action), self._profile, self.name, self._chosen,
                self._seeds, self._directory, self._believe,
            )  # fmt: skip
            runs.origins = self.origins
            self._with_knobs[key] = runs
        return self._with_knobs[key]

    @property
    def episodes(self) -> Episodes:
        """The episodes, with Baseline's output on each."""
        if self._episodes is None:
            self._episodes = Episodes(
                {self.name: self._make()}, self._seeds, self._scenario.duration_s
            )
        return self._episodes

    def _make(self) -> ServingEnv:
        scenario = self._scenario
        return self._chosen.make(
            action=scenario.action,
            reward=scenario.reward,
            interval_s=scenario.interval_s,
            duration_s=scenario.duration_s,
        )

    def _key(self, choice: Any) -> str:
        node = plain(catalog.load("controller", choice))
        parts: list[Any] = [node, self._seeds, self._scenario.content()]
        parts += [described("profile", self._profile), computation_hash(), _FORMAT]
        if self._believed is not self._scenario:
            parts.append(self._believed.content())
        if "bundle" in node:
            parts.append(read_bundle(find_bundle(node["bundle"])).sha256)
        return digest(*parts)

    def _assignments(self, choice: Any) -> list[Assignment]:
        members = self.episodes.members[self.name]
        try:
            return [Assignment(self._controller(choice, None), members)]
        except LooksAhead:
            return [
                Assignment(self._controller(choice, index), members[index : index + 1])
                for index in range(len(self._seeds))
            ]

    def _controller(self, choice: Any, seed_index: int | None) -> Controller:
        controller: Controller = catalog.build("controller", choice)
        controller.bind(self.episodes.envs[self.name].context)
        controller.prepare(
            EpisodePreparation(
                self._believed, self._profile, self.outlook, self.futures, seed_index
            )
        )
        return controller

    def futures(self) -> list[Future]:
        """Returns what will happen in each episode, by seed."""
        env = self.episodes.envs[self.name]
        return [future_of(env, seed) for seed in self._seeds]

    def outlook(self, candidates: list[Knobs]) -> list[list[Outcome]]:
        """Returns what fixed knobs achieve, one list per seed, from one run of all of them."""
        key = tuple(candidates)
        if key not in self._outcomes:
            outcomes: list[list[Outcome]] = []
            for begin in range(0, len(self._seeds), _LOOK_AHEAD_SEEDS):
                seeds = self._seeds[begin : begin + _LOOK_AHEAD_SEEDS]
                outcomes += _look_ahead(
                    self._make(), candidates, seeds, self._scenario.duration_s,
                    self.episodes.reference[begin : begin + len(seeds)],
                )  # fmt: skip
            self._outcomes[key] = outcomes
        return self._outcomes[key]


def _refuse_other_folders(name: str) -> None:
    """Refuses a name, which may come from anybody's file, that would lead out of the folder.

    Raises:
        ConfigurationError: It would, or is no name.
    """
    if not name or PurePosixPath(name).name != name or {"\\", "\0"} & set(name) or name == "..":
        raise ConfigurationError(
            f"{name!r}: what a scenario or controller is called names a file, and cannot be a path"
        )


def _read(file: Path, key: str) -> tuple[list[MetricRow] | None, tuple[str, ...]]:
    """Returns the metrics that are kept in a file, or why they cannot be used."""
    if not file.exists():
        return None, ()
    try:
        kept: Any = read_json(read_regular(file, _MOST_BYTES))
        rows: list[MetricRow] = kept["summaries"]
        if kept["key"] != key:
            return None, ("another configuration, input file, code or library",)
        if kept["sha256"] != _content_hash(rows):
            return None, (f"{file} was edited",)
    except ConfigurationError as error:
        return None, (str(error),)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return None, (f"{file} is damaged ({type(error).__name__}: {error})",)
    return rows, ()


def _content_hash(rows: list[MetricRow]) -> str:
    return short_hash(json.dumps(rows, sort_keys=True).encode())


def _look_ahead(
    env: ServingEnv,
    candidates: list[Knobs],
    seeds: Sequence[int],
    duration_s: float,
    reference: list[np.ndarray[Any, np.dtype[np.float64]]],
) -> list[list[Outcome]]:
    """Runs all fixed knobs on all seeds at once."""
    count = len(candidates)
    held = FixedKnobs.per_server(candidates * len(seeds))
    held.bind(env.context)
    episodes = run_batch(
        vector_of([env] * (count * len(seeds))),
        [Assignment(held, np.arange(count * len(seeds)))],
        seeds=[seed for seed in seeds for _ in candidates],
        duration_s=duration_s,
    )
    summaries = [
        evaluated(episode, reference[index // count], env) for index, episode in enumerate(episodes)
    ]
    return [
        [outcome(metrics) for metrics in summaries[begin : begin + count]]
        for begin in range(0, len(summaries), count)
    ]
