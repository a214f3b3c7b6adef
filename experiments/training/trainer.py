"""A training from its configuration to its files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from omegaconf import OmegaConf
from stable_baselines3.common.vec_env import VecEnv

from agents.asked import Asked, AskedPolicy, AskedVecEnv
from agents.asked import described as describe_asked
from agents.bundle import calibration_hashes, plain_numbers, policy_facts, read_bundle, save_bundle
from agents.bundle_facts import Bundle
from agents.callbacks import Every
from agents.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from agents.compatibility import describe_grid
from agents.constraints import Constraint
from agents.lagrangian import PricedVecEnv, PriceUpdates
from agents.random_state import GoesOn
from agents.recipe import Recipe
from agents.resumable import ResumableVecEnv
from agents.shield import ShieldedVecEnv
from agents.start import start_from, tilt
from agents.threads import set_torch_threads
from envs import catalog
from envs.cache import atomic_write_text
from envs.errors import PalsError
from envs.masking import Masking
from envs.quantities import Decisions, Interval, Processes, Seconds, Seed, Seeds
from envs.scenario import described
from envs.simulator.vector import VectorServer, VectorServingEnv
from envs.user_paths import user_path
from experiments.app.settings import Debug
from experiments.evaluation.metrics import Summary, write_json
from experiments.evaluation.suites import Suite
from experiments.records.hashing import digest, plain
from experiments.records.tracking import RunFacts, Tracker
from experiments.training.card import CARD_FILE, model_card
from experiments.training.logger import training_logger
from experiments.training.mixture import Mixture, calibrations
from experiments.training.policy_evaluation import PolicyEvaluation
from experiments.training.resumed import CONFIG_FILE, bundle_provenance, kept_configuration

OnProgress = Callable[[str, int, int], None]
_LOG = logging.getLogger(__name__)
CHECKPOINT_FILE = "checkpoint.pt"
BUNDLE_FOLDER = "bundle"
EVALUATIONS_FILE = "evaluations.json"


@dataclass(kw_only=True)
class TrainConfig:
    """What a training is made of (``conf/train.yaml``).

    Attributes:
        seed: Seed of every random draw.
        duration: Length of a training episode in seconds.
        interval: Time between two decisions in seconds.
        resume: Folder of a training that was ended before its time; its configuration is used.
        start: Bundle whose weights the training begins with; ``None`` for random ones.
        evaluate_every: Decisions between two evaluations on the suite.
        evaluate_seeds: Episodes per scenario of an evaluation.
        evaluate_duration: Length of an evaluation's episodes in seconds.
        checkpoint_every: Decisions between two checkpoints.
        torch_device: Torch's device, ``cpu``, ``cuda`` or ``auto``.
        threads: Torch's threads. Two are some 1.3 times as fast as one on free cores; sums, and so
            the last digits, hang on their number.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        agent: The algorithm and its arguments.
        mixture: Scenarios to train on.
        suite: Held-out scenarios to evaluate on during the training.
        reward: What the agent earns.
        constraints: Costs to hold below a limit, by name.
        asked: What the agent is asked for in each episode (:class:`agents.asked.Asked`); ``None``
            for an agent with the constraints' own limits.
        tracker: Where a training is shown besides its own files.
        debug: What is shown of an error.
        experiment: Name of a choice that changes several keys at once; ``None`` for none.
    """

    noun: ClassVar[str] = "training"
    renamed: ClassVar[dict[str, str]] = {"device": "torch_device"}

    seed: Seed = 0
    duration: Seconds = 300.0
    interval: Interval = 0.5
    resume: str | None = None
    start: str | None = None
    evaluate_every: Decisions = 500_000
    evaluate_seeds: Seeds = 2
    evaluate_duration: Seconds = 300.0
    checkpoint_every: Decisions = 250_000
    torch_device: str = "cpu"
    threads: Processes = 1
    allow_packages: list[str] = field(default_factory=list)
    agent: Any = None
    mixture: Any = None
    suite: Any = None
    reward: Any = None
    constraints: dict[str, Any] = field(default_factory=dict)
    asked: Any = None
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
        set_torch_threads(max(1, config.threads))
        self.config = config
        self.directory = directory
        self.recipe: Recipe = catalog.build("agent", config.agent)
        mixture: Mixture = catalog.build("mixture", config.mixture)
        suite: Suite = catalog.build("suite", config.suite)
        self.scenarios = mixture.draw(self.recipe.servers, np.random.default_rng(config.seed))
        self._servers = self._make_servers(mixture.domain_randomization)
        families = [scenario.family for scenario in self.scenarios]
        self._asked: Asked | None = None
        if config.asked is not None:
            self._asked = catalog.build("asked", config.asked)
        self.env = PricedVecEnv(self._servers, self._constraints(), families, self._asked)
        self._prices = PriceUpdates(self.env, self.recipe.price_every)
        self._shielded: ShieldedVecEnv | None = None
        seen: VecEnv = self.env
        if self.recipe.shield:
            seen = self._shielded = ShieldedVecEnv(self.env, self._servers.env.contexts)
        self._conditioned: AskedVecEnv | None = None
        if self._asked is not None:
            seen = self._conditioned = AskedVecEnv(
                seen, self.env, self._asked, families, config.seed
            )
        self.model = self.recipe.make(seen, seed=config.seed, device=config.torch_device)
        self.evaluation = PolicyEvaluation(
            suite,
            seeds=range(suite.seed, suite.seed + config.evaluate_seeds),
            duration_s=config.evaluate_duration,
            interval_s=config.interval,
            action=self.recipe.action,
            reward=config.reward,
            shield=self.recipe.shield,
            memory=self.recipe.memory,
        )
        self.evaluations: list[dict[str, Any]] = []
        if config.start is not None and config.resume is None:
            added = start_from(self.model, config.start, self._observation())
            if self._asked is not None and added and self._asked.tilt > 0:
                levels = len(self.evaluation.context.grid.power_caps_w)
                tilt(self.model, levels, self._asked.tilt)

    def run(self, on_progress: OnProgress) -> Summary:
        """Trains to the end and writes the bundle.

        Args:
            on_progress: Called with what is being done, how much is done and how much there is.

        Returns:
            The last evaluation.
        """
        config, steps = self.config, self.recipe.steps
        resumed = self._resume()
        if resumed is None:
            self.env.seed(config.seed)
        record = config.record()
        shown = Masking(record)(record)
        saved = OmegaConf.to_yaml(OmegaConf.create(shown))
        atomic_write_text(self.directory / CONFIG_FILE, saved)
        tracker: Tracker = catalog.build("tracker", config.tracker)
        facts = RunFacts(f"train-{config.seed}", self.directory, shown)
        with tracker.follow(facts) as tracked:
            earlier = None if config.resume is None else user_path(config.resume, "resume")
            done = self.model.num_timesteps
            logger = training_logger(self.directory, tracked, earlier, done)
            self.model.set_logger(logger)
            goes_on = [] if resumed is None else [self._go_on(resumed)]
            progress = Every(1, lambda done: on_progress("training", min(done, steps), steps))
            checkpoints = Every(config.checkpoint_every, lambda done: self._save_checkpoint())
            evaluations = Every(config.evaluate_every, self._evaluate)
            try:
                self.model.learn(
                    steps - done,
                    callback=[*goes_on, self._prices, progress, evaluations, checkpoints],
                    reset_num_timesteps=resumed is None,
                )
            except Exception:  # whatever an action that is no number led to
                self._refuse_divergence()
                raise
            on_progress("training", steps, steps)
            self._evaluate(self.model.num_timesteps)
            self._save_checkpoint()
            self._save_bundle()
        self.env.close()
        return self.evaluations[-1]

    def _make_servers(self, randomize: bool) -> ResumableVecEnv:
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
        return ResumableVecEnv(
            VectorServingEnv(
                [VectorServer.like(template) for template in templates],
                templates[0].reward,
                interval_s=config.interval,
                horizon_s=config.duration,
                max_episode_steps=max(1, round(config.duration / config.interval)),
                autoreset_mode="same_step",
                randomize=randomize,
            ),
            memory=self.recipe.memory,
        )

    def _constraints(self) -> dict[str, Constraint]:
        return {
            str(name): catalog.build(f"constraints.{name}", choice)
            for name, choice in self.config.constraints.items()
            if choice is not None
        }

    def _resume(self) -> Checkpoint | None:
        """Goes back to the checkpoint of ``resume``, if there is one."""
        if self.config.resume is None:
            return None
        folder = user_path(self.config.resume, "resume")
        kept = load_checkpoint(folder / CHECKPOINT_FILE, self.model, self._servers, self._seen)
        if not kept.same:
            _LOG.warning(
                "resume: the servers do not behave as they did when the checkpoint was written "
                "(other code or libraries); the training goes on, but not as it would have"
            )
        self.env.prices.update(kept.prices)
        if self._shielded is not None:
            self._shielded.go_on(kept.observations)
        noted = json.loads(kept.progress)
        if noted["configuration"] != self._configuration():
            _LOG.warning(
                "resume: %s is not the configuration that the checkpoint was written with; the "
                "training goes on with it, but not as it would have",
                folder / CONFIG_FILE,
            )
        self.evaluations = noted["evaluations"]
        return kept

    def _configuration(self) -> str:
        """Returns the hash of what the training is configured to be."""
        kept = kept_configuration(self.config)
        for before, now in self.config.renamed.items():  # checkpoints of before go on
            kept[before] = kept.pop(now)
        return digest(kept)

    def _seen(self, observations: Any, progress: str) -> Any:
        """Returns what the model saw of the servers when a checkpoint was written."""
        if self._conditioned is None:
            return observations
        self._conditioned.go_on(json.loads(progress)["dealt"])
        return self._conditioned.seen(observations)

    def _go_on(self, kept: Checkpoint) -> GoesOn:
        """Takes over what the training had noted, and has its generators go on."""
        noted = json.loads(kept.progress)
        self._prices.due = noted["price_update_due"]
        self.env.go_on(noted["priced"])
        for name, (value, count) in noted["to_be_logged"].items():
            self.model.logger.name_to_value[name] = value
            self.model.logger.name_to_count[name] = count
        return GoesOn(kept.random)

    def _refuse_divergence(self) -> None:
        """Checks that the policy's weights are numbers.

        Raises:
            PalsError: They are not.
        """
        import torch

        if not all(bool(torch.isfinite(own).all()) for own in self.model.policy.parameters()):
            raise PalsError(
                f"the training diverged: after {self.model.num_timesteps:,} decisions the weights "
                "of the policy are no finite numbers; try a lower agent.arguments.learning_rate "
                f"(or other coefficients). {CHECKPOINT_FILE}, if there is one, is of before"
            )

    def _evaluate(self, steps: int) -> None:
        self._refuse_divergence()
        row: dict[str, Any] = {"steps": steps}
        if self._asked is None:
            row |= self.evaluation.run(self.model.policy)
        else:
            found = {
                limit: self.evaluation.run(
                    AskedPolicy(self.model.policy, limit, self._asked.switch_price)
                )
                for limit in self._asked.evaluated
            }
            row |= found[self._asked.evaluated[0]]
            row["asked"] = {f"{limit:g}": own["mean"] for limit, own in found.items()}
        self.evaluations.append(plain_numbers(row))
        write_json(self.directory / EVALUATIONS_FILE, self.evaluations)
        for name, value in row["mean"].items():
            if value is not None:
                self.model.logger.record(f"evaluation/{name}", value)

    def _save_checkpoint(self) -> None:
        self._refuse_divergence()
        logger = self.model.logger
        noted = {
            "configuration": self._configuration(),
            "evaluations": self.evaluations,
            "price_update_due": self._prices.due,
            "priced": self.env.accumulated,
            "dealt": 0 if self._conditioned is None else self._conditioned.dealt,
            "to_be_logged": {
                name: [float(value), logger.name_to_count[name]]
                for name, value in logger.name_to_value.items()
                if not isinstance(value, str)
            },
        }
        save_checkpoint(
            self.directory / CHECKPOINT_FILE,
            self.model,
            self._servers,
            self.env.prices,
            json.dumps(noted),
        )

    def _observation(self) -> list[dict[str, Any]]:
        """Returns what the model's inputs mean."""
        shown = self.recipe.memory.shown(self.evaluation.context.layout)
        return shown if self._asked is None else [*shown, *describe_asked()]

    def _save_bundle(self) -> None:
        context = self.evaluation.context
        names = calibrations(self.scenarios)
        folder = self.directory / BUNDLE_FOLDER
        kept = kept_configuration(self.config)
        save_bundle(
            folder,
            Bundle(
                **policy_facts(self.recipe, self.model),
                observation=self._observation(),
                action=plain(catalog.load("action", self.recipe.action)),
                grid=describe_grid(context.grid),
                calibrations=calibration_hashes(names),
                configuration=kept,
                evaluation=self.evaluations[-1],
                provenance=bundle_provenance(kept),
            ),
            self.model.policy,
        )
        atomic_write_text(folder / CARD_FILE, model_card(read_bundle(folder)))
