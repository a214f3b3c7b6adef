"""Checkpoints of a training: all that resuming needs, in one file without pickle."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import recursive_getattr

from agents.constraints import Price
from envs.cache import atomic_write_bytes
from envs.errors import ConfigurationError

_BUFFER_ARRAYS = (
    "observations", "next_observations", "actions", "rewards", "dones", "timeouts",
)  # fmt: skip


def save_checkpoint(file: Path, model: BaseAlgorithm, prices: Mapping[str, Price]) -> None:
    """Writes a model's parameters, optimisers, replay buffer, prices and progress whole.

    Args:
        file: The file to write.
        model: The model in training.
        prices: Prices of the constraints in force.
    """
    content: dict[str, Any] = {
        "parameters": model.get_parameters(),
        "variables": {name: _variable(model, name).detach() for name in _variables(model)},
        "steps": model.num_timesteps,
        "updates": int(getattr(model, "_n_updates", 0)),
        "prices": {name: list(price) for name, price in prices.items()},
        "torch_random": torch.get_rng_state(),
        "replay": _replay(model),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic_write_bytes(file, buffer.getvalue())


def load_checkpoint(file: Path, model: BaseAlgorithm) -> dict[str, Price]:
    """Restores a model to the state in which a checkpoint was written.

    Args:
        file: The checkpoint.
        model: A model built from the same configuration.

    Returns:
        The prices of the constraints.

    Raises:
        ConfigurationError: The file is missing, damaged, or of another configuration.
    """
    try:
        content = torch.load(file, map_location=model.device, weights_only=True)
        model.set_parameters(content["parameters"])
        for name, value in content["variables"].items():
            _variable(model, name).data.copy_(value)
        model.num_timesteps = content["steps"]
        model._n_updates = content["updates"]
        torch.set_rng_state(content["torch_random"].cpu())
        _restore(model, content["replay"])
        prices = {name: Price(*values) for name, values in content["prices"].items()}
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"resume: no checkpoint {file}; the training was ended before its first one"
        ) from error
    except Exception as error:  # whatever a damaged archive makes torch raise
        raise ConfigurationError(
            f"resume: {file} cannot be used ({type(error).__name__}: {error})"
        ) from error
    return prices


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
