"""Rounds of teaching: the student acts, the teacher says what it should have done, it learns."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from agents.asked import Asked, AskedPolicy, dealt, with_asked
from agents.asked import described as describe_asked
from agents.bundle import calibration_hashes, plain_numbers, policy_facts, read_bundle, save_bundle
from agents.bundle_facts import Bundle, check_policy_arguments
from agents.change_limit import RESERVE, Reserve, spent
from agents.compatibility import describe_grid, observation_space
from agents.memory import Remembering
from agents.recipe import Recipe
from agents.shield import BudgetShield
from agents.threads import set_torch_threads
from envs import catalog
from envs.actions.grid import Grid
from envs.cache import atomic_write_bytes, atomic_write_text
from envs.errors import ConfigurationError
from envs.knobs import Knobs
from envs.masking import Masking
from envs.objectives.conditions import Conditions
from envs.safe_files import read_sealed, sealed
from envs.simulator.vector import VectorServer, VectorServingEnv
from envs.sources import code_hash
from envs.user_paths import user_path
from experiments.evaluation.metrics import Summary, write_json
from experiments.evaluation.suites import Suite
from experiments.imitation.config import ImitateConfig
from experiments.imitation.lessons import Costs, Lessons
from experiments.imitation.limit_prices import LimitPrices
from experiments.imitation.plans import Plans
from experiments.imitation.prices import LessonCost
from experiments.imitation.student import Student, Study
from experiments.imitation.teacher import Teacher
from experiments.records.hashing import digest, plain
from experiments.training.card import CARD_FILE, model_card
from experiments.training.mixture import Mixture, calibrations
from experiments.training.policy_evaluation import PolicyEvaluation
from experiments.training.resumed import CONFIG_FILE, bundle_provenance, kept_configuration

OnProgress = Callable[[str, int, int], None]
_LOG = logging.getLogger(__name__)
ROUNDS_FILE, LESSONS_FOLDER, BUNDLE_FOLDER = "rounds.json", "lessons", "bundle"
STUDENT_FILE = "student.pt"
_MOST_BYTES = 256 << 20
_HELD_S = 5.0
"""Time for which the first round, whose student knows nothing, holds knobs that were drawn."""


def lessons_file(folder: Path, number: int) -> Path:
    """Returns where the lessons of a round are kept."""
    return folder / LESSONS_FOLDER / f"{number:03d}.npz"


class School:
    """Teaches an agent.

    Args:
        config: Its configuration.
        directory: Where its files go.

    Raises:
        ConfigurationError: The configuration is wrong; the message names the key.
    """

    def __init__(self, config: ImitateConfig, directory: Path) -> None:
        set_torch_threads(max(1, config.threads))
        self.config, self.directory = config, directory
        self.recipe: Recipe = catalog.build("agent", config.agent)
        self._asked: Asked = catalog.build("asked", config.asked)
        cost: LessonCost = catalog.build("cost", config.cost)
        study: Study = catalog.build("study", config.study)
        mixture: Mixture = catalog.build("mixture", config.mixture)
        suite: Suite = catalog.build("suite", config.suite)
        self._rng = np.random.default_rng(config.seed)
        self.scenarios = mixture.draw(self.recipe.servers, self._rng)
        _check(config, self.recipe)
        self._servers = self._make_servers(mixture.domain_randomization)
        warmup_s = max(context.qos.warmup_s for context in self._servers.contexts)
        if config.duration <= warmup_s:
            raise ConfigurationError(
                f"duration: must be longer than the {warmup_s:g} s in which violations are not "
                f"evaluated (objective.qos.warmup_s), or no price ever moves, got "
                f"{config.duration:g}"
            )
        grid = self._servers.contexts[0].grid
        self._plans = plans = Plans.of_grid(grid, lowered=config.lowered, clocks=config.clocks)
        self._teacher = Teacher(
            self._servers, randomize=mixture.domain_randomization, plans=plans, cost=cost,
            slo_price=config.slo_price, first_s=config.first_s,
            horizon_s=config.horizon_s, at_once=config.at_once,
        )  # fmt: skip
        self._shield = BudgetShield(self._servers.contexts) if self.recipe.shield else None
        self._remembering = Remembering(
            self.recipe.memory, self._servers.contexts[0].layout, config.interval
        )
        self.policy = self._new_policy()
        self._student = Student(
            self.policy, Costs(plans, study.most_cost), study, self._asked.limits,
            self._asked.switch_prices,
        )  # fmt: skip
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
        self._prices = LimitPrices(config, self._asked, self._servers.num_envs)
        self._lessons: list[Lessons] = []
        self._sums: list[str] = []
        self.rounds: list[dict[str, Any]] = []

    def run(self, on_progress: OnProgress) -> Summary:
        """Teaches to the end and writes the bundle.

        Args:
            on_progress: Called with what is being done, how much is done and how much there is.

        Returns:
            The evaluation at the end.
        """
        self._resume()
        self._begin()
        rounds = self.config.rounds
        while len(self.rounds) < rounds:
            on_progress("teaching", len(self.rounds), rounds)
            self._round(len(self.rounds))
        on_progress("evaluating", rounds, rounds)
        return self._save_bundle()

    def _begin(self) -> None:
        record = self.config.record()
        saved = OmegaConf.to_yaml(OmegaConf.create(Masking(record)(record)))
        (self.directory / LESSONS_FOLDER).mkdir(parents=True, exist_ok=True)
        atomic_write_text(self.directory / CONFIG_FILE, saved)

    def _make_servers(self, randomize: bool) -> VectorServingEnv:
        config = self.config
        templates = [
            scenario.make(
                action=self.recipe.action,
                reward="default",
                interval_s=config.interval,
                duration_s=config.duration,
            )
            for scenario in self.scenarios
        ]
        return VectorServingEnv(
            [VectorServer.like(template) for template in templates],
            templates[0].reward,
            interval_s=config.interval,
            horizon_s=config.duration,
            max_episode_steps=np.iinfo(np.int64).max,
            autoreset_mode="disabled",
            randomize=randomize,
            latency=False,
        )

    def _new_policy(self) -> Any:
        import torch
        from stable_baselines3.common.policies import ActorCriticPolicy
        from stable_baselines3.common.utils import ConstantSchedule

        algorithm: Any = self.recipe.algorithm_class
        chosen = algorithm.policy_aliases.get(self.recipe.arguments.get("policy"))
        if chosen is not ActorCriticPolicy:
            raise ConfigurationError(
                "agent: only an actor-critic without memory can be taught, such as agent=ppo"
            )
        # What no bundle may hold would be refused after the teaching, and the agent lost.
        check_policy_arguments("agent.arguments.policy_kwargs", self.recipe.policy_arguments)
        torch.manual_seed(self.config.seed)
        space = observation_space(self._observation()), self._servers.single_action_space
        chosen = dict(self.recipe.arguments.get("policy_kwargs") or {})
        if isinstance(shared := chosen.get("net_arch"), list):
            chosen["net_arch"] = {"pi": shared, "vf": list(self.config.critic)}
            self.recipe.arguments = {**self.recipe.arguments, "policy_kwargs": chosen}
        return ActorCriticPolicy(*space, ConstantSchedule(0.0), **chosen)

    def _round(self, number: int) -> None:
        """Runs an episode on every server, learns from it, and moves the prices."""
        import torch

        rng = np.random.default_rng([self.config.seed, number])
        level = dealt(len(self._asked.limits), [s.family for s in self.scenarios], rng)
        lessons, violated = self._episode(number, level, rng)
        file = lessons_file(self.directory, number)
        self._lessons.append(lessons)
        rates = [_rate(violated[:, level == own]) for own in range(len(self._asked.limits))]
        if number:  # the first round's knobs were drawn
            self._prices.move(rates, level, violated)
        draws = torch.Generator().manual_seed(int(rng.integers(2**31)))
        cost = self._student.learn(
            Lessons.together(self._lessons),
            self._prices.each(),
            number / self.config.rounds,
            draws,
        )
        self.rounds.append(
            {
                "round": number,
                "lessons": sum(len(part.observations) for part in self._lessons),
                "cost": cost,
                "rates": dict(zip(self._asked.groups, rates, strict=True)),
                "prices": dict(zip(self._asked.groups, self._prices.prices.tolist(), strict=True)),
                "factors": self._prices.factors.tolist(),
            }
        )
        self._sums.append(lessons.save(file))
        self._save_student()
        write_json(self.directory / ROUNDS_FILE, self.rounds)
        _LOG.info("round %d: %s", number, self.rounds[-1])

    def _episode(
        self, number: int, level: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Lessons, NDArray[np.float64]]:
        """Returns the lessons of an episode, and who was in violation in each interval."""
        env, asked, count = self._servers, self._asked, self._servers.num_envs
        limits = np.array(asked.limits)[level]
        switch_prices = rng.choice(np.array(asked.switch_prices), count)
        seeds = [int(seed) for seed in rng.integers(2**31, size=count)]
        observation, info = env.reset(seed=list(seeds))
        self._teacher.begin(seeds)
        coming, last = info["conditions"], self._highest()
        seen, violated = [], []
        past, kv_usage = None, np.zeros(count)
        held = max(1, round(_HELD_S / self.config.interval))
        actions = np.zeros((count, len(self._plans.sizes)), dtype=np.int64)
        reserve = Reserve(np.full(count, RESERVE))
        order = rng.permutation(count)
        for step in range(max(1, round(self.config.duration / self.config.interval))):
            begin = step * self.config.at_once % count
            if begin == 0:
                order = rng.permutation(count)
            which = order[begin : begin + self.config.at_once]
            shown, past = self._remembering.after(observation, past)
            lesson = self._teacher.lesson(which, coming, last, kv_usage)
            seen.append((shown[which], lesson, which))
            if number:
                asked_for, _ = self.policy.predict(
                    with_asked(shown, limits, switch_prices), deterministic=True
                )
                actions, reserve = self._within_changes(asked_for, actions, reserve)
            elif step % held == 0:
                actions = self._plans.first[rng.integers(len(self._plans.first), size=count)]
            if self._shield is not None:
                actions = self._shield(actions, observation)
            observation, _, _, _, info = env.step(actions)
            knobs, coming = info["knobs"], self._demanded(observation)
            kv_usage = info["telemetry"].kv_cache_usage
            last = _as_rows(knobs)
            violated.append(self._teacher.follow(info["conditions"], info["telemetry"]))
        return Lessons.of(seen), np.stack(violated)

    def _within_changes(
        self, asked_for: NDArray[Any], last: NDArray[Any], reserve: Reserve
    ) -> tuple[NDArray[Any], Reserve]:
        """Holds knobs as at run time, so that the student learns what to do while they are."""
        if self.config.changes_per_min is None:
            return asked_for, reserve
        moved = (asked_for != last).any(axis=1)
        refill = self.config.changes_per_min * self.config.interval / 60.0
        held, reserve = spent(moved, reserve, refill)
        return np.where(held[:, None], last, asked_for), reserve

    def _highest(self) -> NDArray[np.float64]:
        return np.stack([_as_rows(context.highest) for context in self._servers.contexts])

    def _demanded(self, observation: NDArray[np.floating[Any]]) -> Conditions:
        """Returns what is demanded from now on, as the servers' observations say."""
        scales = [context.layout.scales for context in self._servers.contexts]
        seen = self._servers.contexts[0].layout.decode(observation)

        def own(name: str, values: Any) -> Any:
            units = np.array([scale[name].unit for scale in scales])
            return values * (units / units[0])

        return Conditions(
            own("target_tok_s", seen.target_tok_s),
            own("power_budget_w", seen.power_budget_w),
            seen.ttft_slo_s,
            seen.tpot_slo_s,
        )

    def _observation(self) -> list[dict[str, Any]]:
        shown = self.recipe.memory.shown(self._servers.contexts[0].layout)
        return [*shown, *describe_asked()]

    def _save_student(self) -> None:
        """Writes what the next round begins with, in one file: a round is there whole or not."""
        import torch

        buffer = io.BytesIO()
        noted = {
            "configuration": digest(kept_configuration(self.config)),
            "code": code_hash(),
            "lessons": self._sums,
            "rounds": self.rounds,
        }
        kept = {
            "policy": self.policy.state_dict(),
            "optimizer": self._student.optimizer.state_dict(),
            "noted": json.dumps(noted),
        }
        torch.save(kept, buffer)
        atomic_write_bytes(self.directory / STUDENT_FILE, sealed(buffer.getvalue()))

    def _resume(self) -> None:
        """Takes over the rounds of an earlier teaching.

        Raises:
            ConfigurationError: A file is missing, or is not as it was written.
        """
        import torch

        if self.config.resume is None:
            return
        folder = user_path(self.config.resume, "resume")
        file = folder / STUDENT_FILE
        if not file.exists():
            raise ConfigurationError(
                f"resume: there is no {STUDENT_FILE} in {folder}: the teaching was ended before "
                "its first round; begin it again, without resume"
            )
        try:
            content = read_sealed(file, _MOST_BYTES)
            kept = torch.load(io.BytesIO(content), weights_only=True)
            self.policy.load_state_dict(kept["policy"])
            self._student.optimizer.load_state_dict(kept["optimizer"])
        except ConfigurationError as error:
            raise ConfigurationError(f"resume: {error}") from error
        except (ValueError, KeyError, RuntimeError) as error:  # of another network
            raise ConfigurationError(f"resume: {file} cannot be used ({error})") from error
        noted = json.loads(kept["noted"])
        if noted["configuration"] != digest(kept_configuration(self.config)):
            raise ConfigurationError(
                f"resume: {folder / CONFIG_FILE} is not the configuration that {file} was written "
                "with; put it back, or begin another teaching"
            )
        if noted["code"] != code_hash():
            _LOG.warning(
                "resume: %s was written with other code; the teaching goes on, but not as it would "
                "have",
                file,
            )
        self.rounds = noted["rounds"]
        self._prices.prices = np.array(list(self.rounds[-1]["prices"].values()))
        self._prices.factors = np.array(self.rounds[-1]["factors"])
        for number, written in enumerate(noted["lessons"]):
            lessons = Lessons.load(lessons_file(folder, number), written)
            self._lessons.append(lessons)
            self._sums.append(lessons.save(lessons_file(self.directory, number)))

    def _save_bundle(self) -> Summary:
        """Evaluates the student and writes its bundle; returns the evaluation."""
        asked, config = self._asked, self.config
        found = {
            limit: self.evaluation.run(AskedPolicy(self.policy, limit, asked.switch_price))
            for limit in asked.evaluated
        }
        steps = (
            config.rounds * self.recipe.servers * max(1, round(config.duration / config.interval))
        )
        row: dict[str, Any] = {"steps": steps, **found[asked.evaluated[0]]}
        row["asked"] = {f"{limit:g}": own["mean"] for limit, own in found.items()}
        row = plain_numbers(row)
        context, folder = self.evaluation.context, self.directory / BUNDLE_FOLDER
        kept = kept_configuration(config)
        save_bundle(
            folder,
            Bundle(
                **policy_facts(self.recipe, self.policy),
                observation=self._observation(),
                action=plain(catalog.load("action", self.recipe.action)),
                grid=describe_grid(context.grid),
                calibrations=calibration_hashes(calibrations(self.scenarios)),
                configuration=kept,
                evaluation=row,
                provenance=bundle_provenance(kept),
            ),
            self.policy,
        )
        atomic_write_text(folder / CARD_FILE, model_card(read_bundle(folder)))
        return row


def _check(config: ImitateConfig, recipe: Recipe) -> None:
    """Checks what keys mean together.

    Raises:
        ConfigurationError: They contradict each other; the message names the key.
    """
    if recipe.servers % config.at_once:
        raise ConfigurationError(
            f"at_once: must divide agent.servers ({recipe.servers}), got {config.at_once}"
        )
    if not isinstance(catalog.build("action", recipe.action), Grid):
        raise ConfigurationError(
            "agent.action: only a grid can be taught, whose knobs are chosen one by one; take "
            "agent.action=grid or agent=ppo_clock"
        )
    if config.horizon_s < 2.0 * config.interval:
        raise ConfigurationError(
            f"horizon_s: must hold two intervals of {config.interval:g} s, got {config.horizon_s:g}"
        )
    if config.lowest_price > config.highest_price:
        raise ConfigurationError(
            f"lowest_price: must be at most highest_price ({config.highest_price:g}), got "
            f"{config.lowest_price:g}"
        )
    if config.first_s >= config.horizon_s:
        raise ConfigurationError(
            f"first_s: must be shorter than horizon_s ({config.horizon_s:g} s), or no plan comes "
            f"to its second phase, got {config.first_s:g}"
        )


def _as_rows(knobs: Knobs) -> NDArray[np.float64]:
    """Returns cap, batch limit and clock limit side by side; a free clock is ``inf``."""
    clock_mhz = np.inf if knobs.sm_clock_mhz is None else knobs.sm_clock_mhz
    columns = np.broadcast_arrays(knobs.power_cap_w, knobs.max_num_seqs, clock_mhz)
    return np.stack(columns, axis=-1).astype(np.float64)


def _rate(violated: NDArray[np.float64]) -> float | None:
    """Returns the mean rate of violations; ``None`` where none was evaluated."""
    known = violated[~np.isnan(violated)]
    return float(known.mean()) if len(known) else None
