"""A training from its configuration to its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from stable_baselines3.common.vec_env import VecEnv

from agents.bundle import calibration_hashes, plain_numbers, policy_facts, save_bundle
from agents.bundle_facts import Bundle
from agents.callbacks import Every
from agents.checkpoint import load_checkpoint, save_checkpoint
from agents.compatibility import describe_grid, describe_observation
from agents.constraints import Constraint
from agents.lagrangian import PricedVecEnv, PriceUpdates
from agents.recipe import Recipe
from agents.shield import ShieldedVecEnv
from agents.vec_env import ServingVecEnv
from envs import catalog
from envs.cache import atomic_write_text
from envs.errors import ConfigurationError
from envs.quantities import Decisions, Interval, Processes, Seconds, Seed, Seeds
from envs.scenario import described
from envs.simulator.vector import VectorServer, VectorServingEnv
from experiments.app.settings import Debug
from experiments.evaluation.metrics import Summary, write_json
from experiments.evaluation.suites import Suite
from experiments.records.hashing import digest, plain, simulator_digest
from experiments.records.provenance import git_commit, version
from experiments.records.tracking import RunFacts, Tracker
from experiments.training.logger import training_logger
from experiments.training.mixture import Mixture, calibrations
from experiments.training.policy_evaluation import PolicyEvaluation

OnProgress = Callable[[str, int, int], None]
CHECKPOINT_FILE = "checkpoint.pt"
BUNDLE_FOLDER = "bundle"
_MAY_CHANGE = {"resume", "tracker", "debug", "allow_packages"}
_NOT_KEPT = ("_target_", "allow_packages", "debug", "experiment", "resume", "tracker")
CONFIG_FILE = "config.yaml"
EVALUATIONS_FILE = "evaluations.json"


@dataclass(kw_only=True)
class TrainConfig:
    """What a training is made of (``conf/train.yaml``).

    Attributes:
        seed: Seed of every random draw.
        duration: Length of a training episode in seconds.
        interval: Time between two decisions in seconds.
        resume: Folder of a training that was ended before its time; its configuration is used.
        evaluate_every: Decisions between two evaluations on the suite.
        evaluate_seeds: Episodes per scenario of an evaluation.
        evaluate_duration: Length of an evaluation's episodes in seconds.
        checkpoint_every: Decisions between two checkpoints.
        device: Torch device.
        threads: Torch's threads; small networks are slower with many.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        agent: The algorithm and its arguments.
        mixture: Scenarios to train on.
        suite: Held-out scenarios to evaluate on during the training.
        reward: What the agent earns.
        constraints: Costs to hold below a limit, by name.
        tracker: Where a training is shown besides its own files.
        debug: What is shown of an error.
        experiment: Name of a choice that changes several keys at once; ``None`` for none.
    """

    seed: Seed = 0
    duration: Seconds = 300.0
    interval: Interval = 0.5
    resume: str | None = None
    evaluate_every: Decisions = 500_000
    evaluate_seeds: Seeds = 2
    evaluate_duration: Seconds = 300.0
    checkpoint_every: Decisions = 250_000
    device: str = "cpu"
    threads: Processes = 1
    allow_packages: list[str] = field(default_factory=list)
    agent: Any = None
    mixture: Any = None
    suite: Any = None
    reward: Any = None
    constraints: dict[str, Any] = field(default_factory=dict)
    tracker: Any = None
    debug: Debug = field(default_factory=Debug)
    experiment: Any = None

    def record(self) -> dict[str, Any]:
        """Returns the configuration as plain values: what ``config.yaml`` holds."""
        record: dict[str, Any] = described("train", self)
        return record


class Training:
    """One training.

    Args:
        config: Its configuration.
        directory: Where its files go.

    Raises:
        ConfigurationError: The configuration is wrong; the message names the key.
    """

    def __init__(self, config: TrainConfig, directory: Path) -> None:
        import torch

        torch.set_num_threads(max(1, config.threads))
        self.config = config
        self.directory = directory
        self.recipe: Recipe = catalog.build("agent", config.agent)
        mixture: Mixture = catalog.build("mixture", config.mixture)
        suite: Suite = catalog.build("suite", config.suite)
        self.scenarios = mixture.draw(self.recipe.servers, np.random.default_rng(config.seed))
        servers = self._servers(mixture.domain_randomization)
        families = [scenario.family for scenario in self.scenarios]
        self.env = PricedVecEnv(servers, self._constraints(), families)
        seen: VecEnv = self.env
        if self.recipe.shield:
            seen = ShieldedVecEnv(self.env, servers.env.contexts)
        self.model = self.recipe.make(seen, seed=config.seed, device=config.device)
        self.evaluation = PolicyEvaluation(
            suite,
            seeds=range(suite.seed, suite.seed + config.evaluate_seeds),
            duration_s=config.evaluate_duration,
            interval_s=config.interval,
            action=self.recipe.action,
            reward=config.reward,
            shield=self.recipe.shield,
        )
        self.evaluations: list[dict[str, Any]] = []

    def run(self, on_progress: OnProgress) -> Summary:
        """Trains to the end and writes the bundle.

        Args:
            on_progress: Called with what is being done, how much is done and how much there is.

        Returns:
            The last evaluation.
        """
        config, steps = self.config, self.recipe.steps
        resumed = self._resume()
        self.env.seed(_stream_seed(config.seed, resumed))
        saved = OmegaConf.to_yaml(OmegaConf.create(config.record()))
        atomic_write_text(self.directory / CONFIG_FILE, saved)
        tracker: Tracker = catalog.build("tracker", config.tracker)
        facts = RunFacts(f"train-{config.seed}", self.directory, config.record())
        with tracker.follow(facts) as tracked:
            self.model.set_logger(training_logger(self.directory, tracked))
            prices = PriceUpdates(self.env, self.recipe.price_every)
            progress = Every(1, lambda done: on_progress("training", min(done, steps), steps))
            checkpoints = Every(config.checkpoint_every, lambda done: self._save_checkpoint())
            evaluations = Every(config.evaluate_every, self._evaluate)
            self.model.learn(
                steps - resumed,
                callback=[prices, progress, checkpoints, evaluations],
                reset_num_timesteps=resumed == 0,
            )
            on_progress("training", steps, steps)
            self._evaluate(self.model.num_timesteps)
            self._save_checkpoint()
            self._save_bundle()
        self.env.close()
        return self.evaluations[-1]

    def _servers(self, randomize: bool) -> ServingVecEnv:
        config = self.config
        templates = [
            scenario.make(
                action=self.recipe.action,
                reward=config.reward,
                interval_s=config.interval,
                duration_s=config.duration,
            )
            for scenario in self.scenarios
        ]
        return ServingVecEnv(
            VectorServingEnv(
                [VectorServer.like(template) for template in templates],
                templates[0].reward,
                interval_s=config.interval,
                horizon_s=config.duration,
                max_episode_steps=max(1, round(config.duration / config.interval)),
                autoreset_mode="same_step",
                randomize=randomize,
            )
        )

    def _constraints(self) -> dict[str, Constraint]:
        return {
            str(name): catalog.build(f"constraints.{name}", choice)
            for name, choice in self.config.constraints.items()
            if choice is not None
        }

    def _resume(self) -> int:
        """Goes back to the checkpoint of ``resume``; returns the decisions made by then."""
        if self.config.resume is None:
            return 0
        folder = Path(self.config.resume)
        prices = load_checkpoint(folder / CHECKPOINT_FILE, self.model)
        self.env.prices.update(prices)
        file = folder / EVALUATIONS_FILE
        if file.is_file():
            rows = json.loads(file.read_text(encoding="utf-8"))
            self.evaluations = [row for row in rows if row["steps"] <= self.model.num_timesteps]
        return int(self.model.num_timesteps)

    def _evaluate(self, steps: int) -> None:
        row = {"steps": steps, **self.evaluation.run(self.model.policy)}
        self.evaluations.append(plain_numbers(row))
        write_json(self.directory / EVALUATIONS_FILE, self.evaluations)
        for name, value in row["mean"].items():
            if value is not None:
                self.model.logger.record(f"evaluation/{name}", value)

    def _save_checkpoint(self) -> None:
        save_checkpoint(self.directory / CHECKPOINT_FILE, self.model, self.env.prices)

    def _save_bundle(self) -> None:
        context = self.evaluation.context
        names = calibrations(self.scenarios)
        save_bundle(
            self.directory / BUNDLE_FOLDER,
            Bundle(
                **policy_facts(self.recipe, self.model),
                observation=describe_observation(context.layout),
                action=plain(catalog.load("action", self.recipe.action)),
                grid=describe_grid(context.grid),
                calibrations=calibration_hashes(names),
                configuration=self._kept(),
                evaluation=self.evaluations[-1],
                provenance={
                    "version": version(),
                    "git_commit": git_commit(),
                    "configuration_hash": digest(self._kept()),
                    "code_hash": simulator_digest(),
                },
            ),
            self.model.policy,
        )

    def _kept(self) -> dict[str, Any]:
        return {k: v for k, v in self.config.record().items() if k not in _NOT_KEPT}


def resumed_config(config: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """Returns the configuration of the training that ``resume`` names, or ``config`` itself.

    Args:
        config: The configuration.
        overrides: What the command line set.

    Raises:
        ConfigurationError: The folder holds no training, or the command line would change it.
    """
    if config.resume is None:
        return config
    names = {text.lstrip("+~").partition("=")[0].partition(".")[0] for text in overrides}
    fixed = names - _MAY_CHANGE
    if fixed:
        raise ConfigurationError(
            f"resume: a training goes on as it was configured; {', '.join(sorted(fixed))} "
            f"cannot be changed (only {', '.join(sorted(_MAY_CHANGE))} can)"
        )
    file = Path(config.resume) / CONFIG_FILE
    if not file.is_file():
        raise ConfigurationError(f"resume: there is no {CONFIG_FILE} in {config.resume}")
    saved = plain(OmegaConf.load(file))
    saved.pop("_target_", None)
    kept = {key: getattr(config, key) for key in _MAY_CHANGE}
    return TrainConfig(**{**saved, **kept})


def _stream_seed(seed: int, resumed: int) -> int:
    """Returns the seed of the episodes to come; a resumed training sees new ones."""
    if resumed == 0:
        return seed
    return int(np.random.SeedSequence([seed, resumed]).generate_state(1)[0])
