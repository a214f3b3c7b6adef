"""Bundles: trained agents as plain files, without pickle.

A bundle is a folder with ``policy.pt`` (weights alone, read with ``weights_only``) and
``bundle.json`` (everything else): which class the policy is, what its inputs and outputs mean,
how it was trained, on which calibrations, and how it did.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.compatibility import check_choice, observation_space
from agents.recipe import Recipe
from envs import catalog
from envs.cache import atomic_write_bytes, atomic_write_text
from envs.errors import ConfigurationError
from envs.simulator.calibration import calibration_hash

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy

FORMAT = 1
SHIPPED = Path(__file__).resolve().parent / "bundles"
_WEIGHTS, _FACTS = "policy.pt", "bundle.json"


@dataclass(kw_only=True)
class Bundle:
    """A trained agent's facts; :func:`load_policy` gives the policy itself.

    Attributes:
        algorithm: Import path of the algorithm's class.
        policy: Name of the policy among the algorithm's, such as ``MlpPolicy``.
        policy_arguments: Further arguments of the policy's class.
        observation: What each entry of an observation means.
        action: Configuration of the action encoding.
        grid: What of the knob grid the policy depends on.
        shield: Whether its caps are held within the power budget (:mod:`agents.shield`).
        calibrations: Hash of each calibration it was trained on, by name.
        configuration: The training's configuration.
        evaluation: How it did on held-out settings.
        provenance: Version, commit and platform.
        weights_sha256: Hash of the weights' file.
        format: Version of this format.
    """

    algorithm: str
    policy: str
    policy_arguments: dict[str, Any]
    observation: list[dict[str, Any]]
    action: dict[str, Any]
    grid: dict[str, Any]
    shield: bool
    calibrations: dict[str, str]
    configuration: dict[str, Any]
    evaluation: dict[str, Any]
    provenance: dict[str, Any]
    weights_sha256: str = ""
    format: int = field(default=FORMAT)


def save_bundle(directory: Path, bundle: Bundle, policy: BasePolicy) -> None:
    """Writes a bundle; the facts last, so that a folder with facts is complete."""
    import torch

    buffer = io.BytesIO()
    torch.save({name: value.cpu() for name, value in policy.state_dict().items()}, buffer)
    weights = buffer.getvalue()
    facts = {**vars(bundle), "weights_sha256": hashlib.sha256(weights).hexdigest()}
    (directory / _FACTS).unlink(missing_ok=True)
    atomic_write_bytes(directory / _WEIGHTS, weights)
    atomic_write_text(directory / _FACTS, json.dumps(facts, indent=1, allow_nan=False) + "\n")


def find_bundle(name: str) -> Path:
    """Returns the folder that a path, or the name of a bundle shipped here, stands for.

    Raises:
        ConfigurationError: There is no bundle of that name.
    """
    for folder in (Path(name).expanduser(), SHIPPED / name):
        for place in (folder, folder / "bundle"):
            if (place / _FACTS).is_file():
                return place
    shipped = sorted(file.parent.name for file in SHIPPED.glob(f"*/{_FACTS}"))
    raise ConfigurationError(
        f"controller.bundle: no {_FACTS} in {name!r}; give the folder of a training "
        f"(python -m experiments.train) or one of those shipped: {', '.join(shipped) or 'none'}"
    )


def read_bundle(directory: Path) -> Bundle:
    """Reads a bundle's facts.

    Raises:
        ConfigurationError: The file is damaged or of another format.
    """
    file = directory / _FACTS
    try:
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known = facts["format"] == FORMAT
        bundle = Bundle(**facts) if known else None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{file}: damaged ({type(error).__name__}: {error})") from error
    if bundle is None:
        raise ConfigurationError(
            f"{file}: format {facts['format']}, and this version reads format {FORMAT}; "
            "train the agent again, or use the version it was trained with"
        )
    check_choice(bundle.action)
    return bundle


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
    import torch
    from stable_baselines3.common.utils import ConstantSchedule

    file = directory / _WEIGHTS
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != bundle.weights_sha256:
        raise ConfigurationError(
            f"{file}: not the weights that {_FACTS} was written with (another SHA-256)"
        )
    policy: BasePolicy = _policy_class(bundle)(
        observation_space(bundle.observation),
        action_space,
        ConstantSchedule(0.0),
        **bundle.policy_arguments,
    )
    try:
        weights = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        policy.load_state_dict(weights)
    except (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigurationError(f"{file}: not the weights of this policy: {error}") from error
    policy.to(device)
    policy.set_training_mode(False)
    return policy


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
    """Returns what a bundle has to know to build the policy of a trained model again."""
    arguments = dict(recipe.arguments.get("policy_kwargs") or {})
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
    """Returns the calibrations that have changed since, or are gone."""
    now = calibration_hashes(calibrations.keys() & set(catalog.names("calibration")))
    return sorted(name for name, value in calibrations.items() if now.get(name) != value)


def plain_numbers(value: Any) -> Any:
    """Returns nested values with NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
