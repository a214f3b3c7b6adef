"""Speed of training, and what is learnt at equal decisions: this PPO beside the library's own.

    python -m benchmarks.training                        # 5 seeds of each, some minutes
    python -m benchmarks.training --decisions 1048576 --threads 2

Both are Stable-Baselines3's ``PPO`` with the arguments of ``conf/agent/ppo.yaml`` on the same
servers. One has the policy and the buffer that the library would take (``MlpPolicy``), the other
those that :class:`agents.recipe.Recipe` chooses. They train in turns, so that what else the
machine does falls on both alike.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from agents.recipe import Recipe
from agents.threads import set_torch_threads
from agents.vec_env import make_vec_env
from benchmarks.against import Ratio
from benchmarks.machine import machine, machine_line
from benchmarks.spread import number
from envs import catalog

WORKLOAD = {"base": "bursty", "load": 0.9}
POINTS = (0.25, 0.5, 0.75, 1.0)
"""Parts of a training after which its reward is compared."""


class Trained(NamedTuple):
    """A training.

    Attributes:
        rewards: Mean reward of each rollout.
        per_cpu_s: Decisions per second of processor time.
        per_s: Decisions per second.
    """

    rewards: NDArray[np.float64]
    per_cpu_s: float
    per_s: float


class Rewards(BaseCallback):
    """Notes the mean reward of each rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[float] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.means.append(float(self.locals["rollout_buffer"].rewards.mean()))


def train(lean: bool, seed: int, decisions: int) -> Trained:
    """Trains for a number of decisions, the first rollout not counted in the time."""
    recipe: Recipe = catalog.build("agent", "ppo")
    env = make_vec_env(recipe.servers, seed=1000 * seed, workload=WORKLOAD, objective="efficiency")
    model: Any
    if lean:
        model = recipe.make(env, seed=seed, device="cpu")
    else:
        model = PPO(env=env, seed=seed, device="cpu", **recipe.arguments)
    rewards = Rewards()
    rollout = model.n_steps * model.n_envs
    model.learn(rollout, callback=rewards)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    model.learn(decisions - rollout, callback=rewards, reset_num_timesteps=False)
    done = model.num_timesteps - rollout
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    env.close()
    return Trained(np.array(rewards.means), done / cpu_s, done / wall_s)


def differences(own: list[Trained], library: list[Trained], part: float) -> tuple[float, ...]:
    """Compares the rewards around a part of the trainings, seed by seed.

    Returns:
        The mean of each, and the lower and the upper end of a 95 % interval of the mean
        difference, from bootstrap samples of the seeds.
    """
    means = []
    for runs in (library, own):
        rewards = np.array([run.rewards for run in runs])
        end = max(1, round(part * rewards.shape[1]))
        means.append(rewards[:, max(0, end - max(1, rewards.shape[1] // 8)) : end].mean(axis=1))
    difference = means[1] - means[0]
    rng = np.random.default_rng(0)
    drawn = rng.choice(difference, (2000, len(difference))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(means[0].mean()), float(means[1].mean()), float(low), float(high)


def main() -> None:
    """Trains, prints tables and writes JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--decisions", type=int, default=262_144, help="of each training")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmarks/training.json"))
    options = parser.parse_args()
    set_torch_threads(options.threads)
    runs: dict[bool, list[Trained]] = {False: [], True: []}
    for seed in range(options.seeds):
        for lean in (False, True) if seed % 2 else (True, False):
            runs[lean].append(train(lean, seed, options.decisions))
    library, own = runs[False], runs[True]
    speed = Table("", "MlpPolicy", "this project's", "ratio", title=machine_line())
    facts: dict[str, Any] = {"machine": machine(), "options": vars(options) | {"json": ""}}
    for field, name in (("per_cpu_s", "decisions per CPU s"), ("per_s", "decisions per s")):
        columns = [[getattr(run, field) for run in rows] for rows in (library, own)]
        ratio = Ratio.of(*columns)
        medians = [float(np.median(column)) for column in columns]
        speed.add_row(name, *(number(median) for median in medians), str(ratio))
        facts[field] = {"library": columns[0], "own": columns[1], "ratio": ratio._asdict()}
    learnt = Table(
        "after decisions", "MlpPolicy", "this project's", "difference, 95 %",
        title=f"mean reward per interval of {options.seeds} seeds",
    )  # fmt: skip
    for part in POINTS:
        theirs, ours, low, high = differences(own, library, part)
        decisions = round(part * options.decisions)
        learnt.add_row(
            f"{decisions:,}", f"{theirs:.4f}", f"{ours:.4f}", f"{low:+.4f} … {high:+.4f}"
        )
        facts.setdefault("rewards", []).append([decisions, theirs, ours, low, high])
    Console().print(speed)
    Console().print(learnt)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
