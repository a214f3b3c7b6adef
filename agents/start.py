"""Begins a training with the weights of an agent that was trained before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agents.asked import SCALES, VIOLATION_LIMIT
from agents.bundle import find_bundle, read_bundle, read_weights
from agents.bundle_facts import Bundle
from agents.memory import TO, Memory
from envs.errors import ConfigurationError

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm


_FIRST, _SECOND = "mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2"
_OUT = "action_net"
_MIDDLE = 0.02
"""Limit at which a tilted policy acts as it did."""


def tilt(model: BaseAlgorithm, levels: int, strength: float) -> None:
    """Gives a policy a first inclination: the stricter the asked limit, the higher the cap.

    A policy that was trained for long explores too little to find out soon what the new inputs are
    for. One unit of each hidden layer, the one whose output weighs least, is replaced by a path
    from the asked limit to the preferences for the caps, which training may change like any other.

    Args:
        model: The model, whose inputs end with what is asked for.
        levels: Number of power caps, the first part of an action.
        strength: How much the preference (logit) changes from one cap to the next between the
            middle of the scale and its end, about.

    Raises:
        ConfigurationError: The policy has not two hidden layers.
    """
    import torch

    weights = dict(model.policy.named_parameters())
    keys = [f"{layer}.{part}" for layer in (_FIRST, _SECOND, _OUT) for part in ("weight", "bias")]
    if any(key not in weights for key in keys):
        raise ConfigurationError("asked.tilt: needs a policy with two hidden layers")
    first, first_bias, second, second_bias, out, _ = (weights[key].data for key in keys)
    inner = int(second.norm(dim=0).argmin())
    outer = int(out.norm(dim=0).argmin())
    limit = first.shape[1] - len(SCALES)
    first[inner] = 0.0
    first[inner, limit] = 2.5
    first_bias[inner] = -2.5 * float(SCALES[VIOLATION_LIMIT].encoded(_MIDDLE))
    second[:, inner] = 0.0
    second[outer] = 0.0
    second[outer, inner] = 1.5
    second_bias[outer] = 0.0
    middle = 0.5 * (levels - 1)
    out[:, outer] = 0.0
    out[:levels, outer] = -strength * (torch.arange(levels, dtype=out.dtype) - middle)


def start_from(model: BaseAlgorithm, name: str, observation: Sequence[dict[str, Any]]) -> int:
    """Takes over a bundle's weights; inputs that it did not have begin with weights of 0.

    Args:
        model: The model in training.
        name: The bundle: a folder, or the name of a shipped one.
        observation: What the model's inputs mean; the bundle's have to come first, in its order.

    Returns:
        How many inputs the bundle did not have.

    Raises:
        ConfigurationError: The bundle's policy is another network, or saw something else.
    """
    import torch

    folder = find_bundle(name, "start")
    bundle = read_bundle(folder)
    if list(bundle.observation) != list(observation[: len(bundle.observation)]):
        raise ConfigurationError(
            f"start: the agent in {folder} observes something else ({_told(bundle.observation)}); "
            f"this training: {_told(observation)}"
        )
    weights = read_weights(folder, bundle, "cpu")
    own = model.policy.state_dict()
    if weights.keys() != own.keys():
        raise ConfigurationError(
            f"start: the agent in {folder} has other layers; {_same_network(bundle)}"
        )
    for key, value in own.items():
        known = weights[key]
        if known.shape == value.shape:
            value.copy_(known)
        elif (
            value.ndim == 2
            and value.shape[0] == known.shape[0]
            and value.shape[1] - known.shape[1] == len(observation) - len(bundle.observation)
        ):
            value.copy_(torch.nn.functional.pad(known, (0, value.shape[1] - known.shape[1])))
        else:
            raise ConfigurationError(
                f"start: {key} of the agent in {folder} has the shape {tuple(known.shape)}, and "
                f"here {tuple(value.shape)}; {_same_network(bundle)}"
            )
    return len(observation) - len(bundle.observation)


def _same_network(bundle: Bundle) -> str:
    """Returns what to set so that a training has the network of a bundle."""
    key = "agent.arguments.policy_kwargs"
    return "its network is had with " + " ".join(
        f"'~{key}.{name}' '+{key}.{name}={str(value).replace(chr(39), '')}'"
        for name, value in bundle.policy_arguments.items()
    )


def _told(observation: Sequence[dict[str, Any]]) -> str:
    """Returns what kinds of entries there are, and the key that says what is remembered."""
    memory = Memory.of(observation)
    remembered = [entry for entry in observation if TO in entry]
    own = len(observation) - len(remembered)
    if not memory:
        return f"{own} entries, agent.memory.entries=[]"
    entries, until = ",".join(memory.entries), ",".join(f"{end:g}" for end in memory.until_s)
    return f"{own} entries, agent.memory.entries=[{entries}] agent.memory.until_s=[{until}]"
