"""Proximal policy optimisation in one file, in the manner of CleanRL: read it from top to bottom.

Sixteen simulated servers are stepped by one compiled call; the policy picks one of the 36 pairs of
power cap and batch limit. Everything that learns is here; only the servers are imported::

    python examples/ppo.py --steps 200000 --seed 1
    python examples/ppo.py --model olmoe_1b_7b --workload bursty --save policy.pt
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import pals_gym
from agents.threads import set_torch_threads


@dataclass
class Arguments:
    """What the command line sets.

    Attributes:
        model: Model that the servers serve.
        gpus: GPUs of a server.
        workload: Requests they get.
        objective: What is demanded of them.
        seed: Seed of servers, weights and draws.
        steps: Decisions over all servers.
        servers: Servers that are stepped together.
        horizon: Decisions of each server between two updates.
        epochs: Passes over the decisions of an update.
        minibatches: Parts of a pass.
        learning_rate: At the beginning; it falls to 0.
        gamma: Discount of a reward one decision later.
        gae_lambda: Weight of later advantages.
        clip: Largest relative change of a probability that an update is rewarded for.
        entropy: Weight of the entropy in the loss.
        save: Where the weights go; ``None`` for nowhere.
    """

    model: str = "olmoe_1b_7b"
    gpus: int = 1
    workload: str = "bursty"
    objective: str = "throughput_target"
    seed: int = 1
    steps: int = 200_000
    servers: int = 16
    horizon: int = 64
    epochs: int = 4
    minibatches: int = 4
    learning_rate: float = 1e-3
    gamma: float = 0.98
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy: float = 0.003
    save: str | None = None


class Agent(nn.Module):
    """A policy and a value function, apart from each other."""

    def __init__(self, entries: int, actions: int) -> None:
        super().__init__()
        self.policy = nn.Sequential(
            layer(entries, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, actions, 0.01)
        )
        self.value = nn.Sequential(
            layer(entries, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 1, 1.0)
        )

    def values(self, observations: torch.Tensor) -> torch.Tensor:
        """Returns what each observation is worth."""
        values: torch.Tensor = self.value(observations).squeeze(-1)
        return values

    def choices(self, observations: torch.Tensor) -> Categorical:
        """Returns the distribution of actions at each observation."""
        return Categorical(logits=self.policy(observations))


def layer(inputs: int, outputs: int, gain: float = 2.0**0.5) -> nn.Linear:
    """Returns a linear layer with orthogonal weights."""
    made = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(made.weight, gain)
    nn.init.zeros_(made.bias)
    return made


def train(arguments: Arguments) -> list[float]:
    """Trains an agent.

    Args:
        arguments: What the command line sets.

    Returns:
        The mean reward of each update's decisions.
    """
    torch.manual_seed(arguments.seed)
    set_torch_threads(1)
    env = pals_gym.make_vec(
        num_envs=arguments.servers,
        model=arguments.model,
        server={"base": "simulated", "tensor_parallel": arguments.gpus},
        workload=arguments.workload,
        objective=arguments.objective,
        action="joint",
        autoreset_mode="same_step",
    )
    entries = int(env.single_observation_space.shape[0])
    agent = Agent(entries, int(env.single_action_space.n))
    optimizer = torch.optim.Adam(agent.parameters(), lr=arguments.learning_rate, eps=1e-5)

    shape = (arguments.horizon, arguments.servers)
    observations = torch.zeros((*shape, entries))
    actions, log_probabilities = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
    rewards, values, continues = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    history: list[float] = []
    updates = max(1, arguments.steps // (arguments.horizon * arguments.servers))
    start = time.monotonic()
    seen, _ = env.reset(seed=arguments.seed)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = arguments.learning_rate * (1.0 - update / updates)
        violated = joules = tokens = 0.0
        for index in range(arguments.horizon):
            now = torch.from_numpy(np.asarray(seen))
            with torch.no_grad():
                choices = agent.choices(now)
                action = choices.sample()
                values[index] = agent.values(now)
                log_probabilities[index] = choices.log_prob(action)
            observations[index], actions[index] = now, action
            seen, reward, _, truncated, info = env.step(action.numpy())
            rewards[index] = torch.from_numpy(np.asarray(reward, dtype=np.float32))
            continues[index] = torch.from_numpy(~truncated).float()
            if truncated.any():  # time ran out: what would have come later counts all the same
                with torch.no_grad():
                    last = agent.values(torch.from_numpy(info["final_obs"]))
                ended = torch.from_numpy(truncated)
                rewards[index] += arguments.gamma * last * ended
            violated += float(np.mean(info["cost"])) / arguments.horizon
            telemetry = info["telemetry"]
            tokens += float(np.sum(telemetry.prompt_tokens + telemetry.output_tokens))
            joules += float(np.sum(telemetry.energy_gpu_j))

        with torch.no_grad():
            following = agent.values(torch.from_numpy(np.asarray(seen)))
        advantages, gathered = torch.zeros(shape), torch.zeros(arguments.servers)
        for index in reversed(range(arguments.horizon)):
            error = rewards[index] - values[index]
            error += arguments.gamma * following * continues[index]
            gathered = error + arguments.gamma * arguments.gae_lambda * continues[index] * gathered
            advantages[index], following = gathered, values[index]
        returns = advantages + values

        flat = [
            tensor.reshape(-1, *tensor.shape[2:])
            for tensor in (observations, actions, log_probabilities, advantages, returns)
        ]
        for _ in range(arguments.epochs):
            for part in torch.randperm(len(flat[0])).chunk(arguments.minibatches):
                optimizer.zero_grad()
                loss(agent, [tensor[part] for tensor in flat], arguments).backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()

        history.append(float(rewards.mean()))
        if update % 10 == 0 or update == updates - 1:
            done = (update + 1) * arguments.horizon * arguments.servers
            pace = done / (time.monotonic() - start)
            print(
                f"{done:>9,} decisions  reward {history[-1]:+.3f}  violated {violated:.1%}  "
                f"{tokens / max(joules, 1e-9):.3f} tokens/J  {pace:,.0f} decisions/s"
            )
    env.close()
    if arguments.save:
        torch.save(agent.state_dict(), Path(arguments.save))
    return history


def loss(agent: Agent, batch: Sequence[torch.Tensor], arguments: Arguments) -> torch.Tensor:
    """Returns PPO's clipped loss of a minibatch, with those of value and entropy."""
    observations, actions, log_probabilities, advantages, returns = batch
    choices = agent.choices(observations)
    ratio = (choices.log_prob(actions) - log_probabilities).exp()
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    clipped = ratio.clamp(1.0 - arguments.clip, 1.0 + arguments.clip)
    gain = torch.minimum(ratio * advantages, clipped * advantages).mean()
    error = 0.5 * (agent.values(observations) - returns).square().mean()
    return -gain + 0.5 * error - arguments.entropy * choices.entropy().mean()


def parsed(line: Sequence[str] | None = None) -> Arguments:
    """Returns the arguments of a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in vars(Arguments()).items():
        kind = str if default is None else type(default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    return Arguments(**vars(parser.parse_args(line)))


if __name__ == "__main__":
    train(parsed())
