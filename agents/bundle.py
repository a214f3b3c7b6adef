"""Bundles: trained agents as plain files, without pickle.

A bundle is a folder with ``policy.pt`` (weights alone, read with ``weights_only``) and
``bundle.json`` (everything else): which class the policy is, what its inputs and outputs mean,
how it was trained, on which calibrations, and its evaluation on held-out scenarios.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.bundle_facts import Bundle, facts_sha256, parse_facts
from agents.compatibility import observation_space
from agents.recipe import Recipe
from envs import catalog
from envs.cache import atomic_write_bytes, atomic_write_text
from envs.errors import ConfigurationError
from envs.safe_files import read_regular
from envs.simulator.calibration import calibration_hash
from envs.user_paths import user_path

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy

SHIPPED = Path(__file__).resolve().parent / "bundles"
_WEIGHTS, _FACTS = "policy.pt", "bundle.json"
_MOST_FACTS_BYTES, _MOST_WEIGHTS_BYTES = 16 << 20, 256 << 20


def save_bundle(directory: Path, bundle: Bundle, policy: BasePolicy) -> None:
    """Writes a bundle. The facts come last, so that a folder with facts is complete."""
    import torch

    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in policy.state_dict().items()}, buffer)
    weights = buffer.getvalue()
    facts = {**vars(bundle), "weights_sha256": hashlib.sha256(weights).hexdigest()}
    facts["sha256"] = facts_sha256(facts)
    (directory / _FACTS).unlink(missing_ok=True)
    atomic_write_bytes(directory / _WEIGHTS, weights)
    atomic_write_text(directory / _FACTS, json.dumps(facts, indent=1, allow_nan=False) + "\n")


def find_bundle(name: str, key: str = "controller.bundle") -> Path:
    """Returns the folder of a bundle, given its path or the name of a shipped bundle.

    Args:
        name: The path or name.
        key: What was to name it, for the message.

    Raises:
        ConfigurationError: There is no bundle of that name.
    """
    places = [user_path(name, key), SHIPPED / name]
    if "/" not in name:  # a name is a shipped bundle's, whatever folder is called the same
        places.reverse()
    for folder in places:
        for place in (folder, folder / "bundle"):
            if (place / _FACTS).is_file():
                return place
    shipped = sorted(file.parent.name for file in SHIPPED.glob(f"*/{_FACTS}"))
    raise ConfigurationError(
        f"{key}: no {_FACTS} in {name!r}; give the folder of a training "
        f"(python -m experiments.train) or one of those shipped: {', '.join(shipped) or 'none'}"
    )


def read_bundle(directory: Path) -> Bundle:
    """Reads a bundle's facts.

    Raises:
        ConfigurationError: The file is damaged, of another format, or says something that no
            bundle may say; the message names file and key.
    """
    file = directory / _FACTS
    content = read_regular(file, _MOST_FACTS_BYTES)
    try:
        return parse_facts(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def load_policy(directory: Path, bundle: Bundle, action_space: Any, device: str) -> BasePolicy:
    """Builds a bundle's policy and loads its weights.

    Args:
        directory: The bundle's folder.
        bundle: Its facts.
        action_space: Space of the actions of the bundle's encoding.
        device: Torch device.

    Raises:
        ConfigurationError: The weights are damaged or do not fit the policy.
    """
    from stable_baselines3.common.utils import ConstantSchedule

    weights = read_weights(directory, bundle, device)
    try:
        policy: BasePolicy = _policy_class(bundle)(
            observation_space(bundle.observation),
            action_space,
            ConstantSchedule(0.0),
            **bundle.policy_arguments,
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigurationError(
            f"{directory / _FACTS}: policy_arguments: {bundle.policy} does not take them: {error}"
        ) from error
    try:
        policy.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        file = directory / _WEIGHTS
        raise ConfigurationError(f"{file}: not the weights of this policy: {error}") from error
    policy.to(device)
    policy.set_training_mode(False)
    return policy


def read_weights(directory: Path, bundle: Bundle, device: str) -> dict[str, Any]:
    """Reads a bundle's weights.

    Args:
        directory: The bundle's folder.
        bundle: Its facts.
        device: Torch device.

    Raises:
        ConfigurationError: They are damaged, or not those that the facts were written with.
    """
    import torch

    file = directory / _WEIGHTS
    content = read_regular(file, _MOST_WEIGHTS_BYTES)
    if hashlib.sha256(content).hexdigest() != bundle.weights_sha256:
        raise ConfigurationError(
            f"{file}: not the weights that {_FACTS} was written with (another SHA-256)"
        )
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"device: torch cannot use {device!r} here ({reason})") from error
    try:
        return _weights(content, device)
    except (RuntimeError, ValueError, TypeError, KeyError, EOFError) as error:
        raise ConfigurationError(f"{file}: not the weights of this policy: {error}") from error


def _weights(content: bytes, device: str) -> dict[str, Any]:
    """Reads tensors from an archive; torch alone would also accept plain pickles and any size.

    Raises:
        ValueError: The content is not an archive of finite tensors.
    """
    import torch

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _MOST_WEIGHTS_BYTES:
            raise ValueError(f"they unpack to {unpacked:,} bytes")
        weights = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(weights, dict) or not all(
        isinstance(value, torch.Tensor) and bool(torch.isfinite(value).all())
        for value in weights.values()
    ):
        raise ValueError("it holds values that are not finite tensors")
    return weights


def _policy_class(bundle: Bundle) -> Any:
    algorithm = Recipe(algorithm=bundle.algorithm).algorithm_class
    aliases = algorithm.policy_aliases
    if bundle.policy not in aliases:
        raise ConfigurationError(
            f"bundle.policy: {bundle.algorithm} has no {bundle.policy!r}; "
            f"it has {', '.join(sorted(aliases))}"
        )
    return aliases[bundle.policy]


def policy_facts(recipe: Recipe, model: BaseAlgorithm) -> dict[str, Any]:
    """Returns the facts from which the policy of a trained model can be built again."""
    arguments = recipe.policy_arguments
    if getattr(model, "use_sde", False):
        arguments["use_sde"] = True
    return {
        "algorithm": recipe.algorithm,
        "policy": str(recipe.arguments["policy"]),
        "policy_arguments": arguments,
        "shield": recipe.shield,
    }


def calibration_hashes(names: Iterable[str]) -> dict[str, str]:
    """Returns the hash of each of the catalogue's calibrations, by name."""
    return {name: calibration_hash(catalog.build("calibration", name)) for name in names}


def stale_calibrations(calibrations: Mapping[str, str]) -> list[str]:
    """Returns the names of calibrations that have changed or were removed since the training."""
    now = calibration_hashes(calibrations.keys() & set(catalog.names("calibration")))
    return sorted(name for name, value in calibrations.items() if now.get(name) != value)


def plain_numbers(value: Any) -> Any:
    """Returns nested values with NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
