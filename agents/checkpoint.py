"""Checkpoints of a training: all that resuming needs, in one file without pickle."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import recursive_getattr

from agents.constraints import Price
from agents.random_state import random_state
from agents.resumable import EpisodeSoFar, ResumableVecEnv
from envs.cache import atomic_write_bytes
from envs.errors import ConfigurationError
from envs.safe_files import read_sealed, sealed

_COUNTERS = ("_current_progress_remaining", "_episode_num", "_n_calls", "exploration_rate")
_BUFFER_ARRAYS = (
    "observations", "next_observations", "actions", "rewards", "dones", "timeouts",
)  # fmt: skip
_MOST_BYTES = 64 << 30
"""Replay buffers can be large."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds besides the state of the model.

    Attributes:
        prices: Prices of the constraints in force.
        random: State of the generators, for :class:`agents.random_state.GoesOn`.
        progress: What the training itself noted, as text.
        observations: Last observations of the servers, shape ``(num_envs, entries)``.
        same: Whether the servers came back to those observations.
    """

    prices: dict[str, Price]
    random: dict[str, Any]
    progress: str
    observations: NDArray[np.float32]
    same: bool


def save_checkpoint(
    file: Path,
    model: BaseAlgorithm,
    servers: ResumableVecEnv,
    prices: Mapping[str, Price],
    progress: str,
) -> None:
    """Writes all that a training depends on whole.

    That is parameters, optimisers, replay buffer, counters, generators, the servers' episode so far
    and prices. It is written between two updates, when the rollout buffer is empty.

    Args:
        file: The file to write.
        model: The model in training.
        servers: What it trains on.
        prices: Prices of the constraints in force.
        progress: What the training itself has to know again.
    """
    episode = servers.episode
    content: dict[str, Any] = {
        "parameters": model.get_parameters(),
        "variables": {name: _variable(model, name).detach() for name in _variables(model)},
        "steps": model.num_timesteps,
        "updates": int(getattr(model, "_n_updates", 0)),
        "prices": {name: list(price) for name, price in prices.items()},
        "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
        "random": random_state(model),
        "last": _last(model),
        "episode": {"begin": episode.begin, "actions": torch.from_numpy(episode.actions)},
        "progress": progress,
        "replay": _replay(model),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic_write_bytes(file, sealed(buffer.getvalue()))


def load_checkpoint(
    file: Path,
    model: BaseAlgorithm,
    servers: ResumableVecEnv,
    seen: Callable[[NDArray[np.float32], str], NDArray[np.float32]] = lambda own, progress: own,
) -> Checkpoint:
    """Restores a model and its servers to the state in which a checkpoint was written.

    Args:
        file: The checkpoint.
        model: A model built from the same configuration.
        servers: What it trains on.
        seen: Gives what the model saw of the servers' observations; its second argument is what
            the training noted.

    Returns:
        What else the checkpoint holds.

    Raises:
        ConfigurationError: The file is missing, damaged, or of another configuration.
    """
    try:
        file.stat()  # a file that is missing has an error of its own
        kept = io.BytesIO(read_sealed(file, _MOST_BYTES))
        content = torch.load(kept, map_location=model.device, weights_only=True)
        model.set_parameters(content["parameters"])
        for name, value in content["variables"].items():
            _variable(model, name).data.copy_(value)
        model.num_timesteps = content["steps"]
        model._n_updates = content["updates"]
        for name, value in content["counters"].items():
            setattr(model, name, value)
        _restore(model, content["replay"])
        episode = content["episode"]
        observations = servers.bring_back(
            EpisodeSoFar.of(episode["begin"], episode["actions"].cpu().numpy())
        )
        same = _restore_last(model, content["last"], seen(observations, content["progress"]))
        prices = {name: Price(*values) for name, values in content["prices"].items()}
        return Checkpoint(prices, content["random"], content["progress"], observations, same)
    except ConfigurationError as error:
        raise ConfigurationError(f"resume: {error}") from error
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"resume: no checkpoint {file}; the training was ended before its first one"
        ) from error
    except Exception as error:  # whatever a damaged archive makes torch raise
        raise ConfigurationError(
            f"resume: {file} cannot be used ({type(error).__name__}: {error})"
        ) from error


def _last(model: BaseAlgorithm) -> dict[str, Any]:
    """Returns what the next rollout begins with."""
    states = getattr(model, "_last_lstm_states", None)
    starts = model._last_episode_starts
    return {
        "observations": torch.from_numpy(np.asarray(model._last_obs)),
        "starts": None if starts is None else torch.from_numpy(np.asarray(starts)),
        "recurrent": None if states is None else [list(part) for part in states],
    }


def _restore_last(
    model: BaseAlgorithm, last: dict[str, Any], observations: NDArray[np.float32]
) -> bool:
    """Sets what the next rollout begins with; returns whether it is what it was."""
    model._last_obs = observations
    starts = last["starts"]
    model._last_episode_starts = None if starts is None else starts.cpu().numpy()
    if last["recurrent"] is not None:
        states: Any = model._last_lstm_states  # type: ignore[attr-defined]
        model._last_lstm_states = type(states)(  # type: ignore[attr-defined]
            *(tuple(part) for part in last["recurrent"])
        )
    return bool(np.array_equal(last["observations"].cpu().numpy(), observations))


def _variables(model: BaseAlgorithm) -> list[str]:
    """Returns the names of parameters outside any module, such as an entropy coefficient."""
    return model._get_torch_save_params()[1]


def _variable(model: BaseAlgorithm, name: str) -> torch.Tensor:
    tensor: torch.Tensor = recursive_getattr(model, name)
    return tensor


def _replay(model: BaseAlgorithm) -> dict[str, Any]:
    buffer = getattr(model, "replay_buffer", None)
    if not isinstance(buffer, ReplayBuffer):
        return {}
    size = buffer.size()
    arrays = {name: torch.from_numpy(getattr(buffer, name)[:size]) for name in _BUFFER_ARRAYS}
    return {"size": size, "position": buffer.pos, "full": buffer.full, **arrays}


def _restore(model: BaseAlgorithm, replay: dict[str, Any]) -> None:
    buffer = getattr(model, "replay_buffer", None)
    if not isinstance(buffer, ReplayBuffer) or not replay:
        return
    for name in _BUFFER_ARRAYS:
        array: np.ndarray[Any, Any] = getattr(buffer, name)
        array[: replay["size"]] = replay[name].cpu().numpy()
    buffer.pos, buffer.full = replay["position"], replay["full"]
