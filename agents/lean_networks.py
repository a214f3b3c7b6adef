"""An actor and a critic of plain layers, evaluated and differentiated in as few steps as possible.

Autograd notes every operation and goes back through each of them; for small networks that takes
longer than the arithmetic. Here one function does what the networks and the distribution over
discrete actions do, and knows its derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_tanh_backward: Any = torch.ops.aten.tanh_backward


class Networks(NamedTuple):
    """Layers of an actor and a critic; each one but the last is followed by ``tanh``.

    Attributes:
        actor: The actor's; the last gives the logits of all parts of an action.
        critic: The critic's; the last gives the value.
        choices: Values of each part of an action.
    """

    actor: list[nn.Linear]
    critic: list[nn.Linear]
    choices: int


def tanh_layers(network: nn.Module) -> list[nn.Linear] | None:
    """Returns the layers of a network with ``tanh`` behind each of them; ``None`` for others."""
    parts = list(network.children())
    layers = [part for part in parts[::2] if isinstance(part, nn.Linear) and part.bias is not None]
    plain = all(isinstance(part, nn.Tanh) for part in parts[1::2])
    return layers if plain and 2 * len(layers) == len(parts) else None


def log_softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns log-probabilities and probabilities over the last axis.

    Torch's own takes five times as long where this axis is short.
    """
    above = logits - reduce(torch.maximum, logits.unbind(-1)).unsqueeze(-1)
    odds = above.exp()
    total = odds.sum(-1, keepdim=True)
    return above - total.log(), odds / total


def drawn(probabilities: Tensor) -> Tensor:
    """Draws an index for each distribution over the last axis."""
    passed = probabilities.cumsum(-1)[..., :-1] <= torch.rand_like(probabilities[..., :1])
    return passed.sum(-1)


def of_actions(log_probabilities: Tensor, actions: Tensor) -> Tensor:
    """Returns the log-probability of each action, whose parts are independent."""
    return log_probabilities.gather(-1, actions.unsqueeze(-1)).sum((-2, -1))


def outputs(networks: Networks, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Returns logits, shape ``(batch, parts, choices)``, and values, shape ``(batch, 1)``."""
    logits = _through(inputs, _parameters(networks.actor))[-1]
    values = _through(inputs, _parameters(networks.critic))[-1]
    return logits.view(len(inputs), -1, networks.choices), values


class Evaluated(torch.autograd.Function):
    """Values, log-probabilities and entropies of actions that were taken."""

    @classmethod
    def of(
        cls, networks: Networks, inputs: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluates actions.

        Args:
            networks: Actor and critic.
            inputs: Observations, shape ``(batch, entries)``.
            actions: Indices, shape ``(batch, parts)``.

        Returns:
            Values, shape ``(batch, 1)``; log-probabilities and entropies, shape ``(batch,)``.
        """
        parameters = [*_parameters(networks.actor), *_parameters(networks.critic)]
        facts = networks.choices, 2 * len(networks.actor)
        apply: Any = cls.apply
        evaluated: tuple[Tensor, Tensor, Tensor] = apply(inputs, actions, *facts, *parameters)
        return evaluated

    @staticmethod
    def forward(  # type: ignore[override]  # named arguments in place of any
        ctx: Any, inputs: Tensor, actions: Tensor, choices: int, split: int, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluates; see :meth:`of`."""
        actor = _through(inputs, parameters[:split])
        critic = _through(inputs, parameters[split:])
        log_probabilities, probabilities = log_softmax(actor[-1].view(len(inputs), -1, choices))
        entropies = -(probabilities * log_probabilities).sum(-1)
        ctx.ends = 5 + len(actor) - 1, 3 + len(actor) + len(critic), split
        ctx.save_for_backward(
            inputs, actions, log_probabilities, probabilities, entropies, *actor[:-1],
            *critic[:-1], *parameters,
        )  # fmt: skip
        return critic[-1], of_actions(log_probabilities, actions), entropies.sum(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Returns the derivative with respect to each parameter."""
        kept = ctx.saved_tensors
        inputs, actions, log_probabilities, probabilities, entropies = kept[:5]
        end_of_actor, end_of_critic, split = ctx.ends
        by_value, by_log_prob, by_entropy = gradients
        # How a logit moves the log-probability of the action, and the entropy.
        by_logits = probabilities * (
            -by_log_prob[:, None, None]
            - by_entropy[:, None, None] * (log_probabilities + entropies[..., None])
        )
        chosen = actions[..., None] == torch.arange(by_logits.shape[-1], device=actions.device)
        by_logits.addcmul_(by_log_prob[:, None, None], chosen.to(by_logits.dtype))
        parameters = kept[end_of_critic:]
        actor, critic = kept[5:end_of_actor], kept[end_of_actor:end_of_critic]
        return (
            None, None, None, None,
            *_back(by_logits.flatten(1), [inputs, *actor], parameters[:split]),
            *_back(by_value, [inputs, *critic], parameters[split:]),
        )  # fmt: skip


def _parameters(layers: Sequence[nn.Linear]) -> list[Tensor]:
    """Returns the weight and the bias of each layer in turn."""
    return [tensor for layer in layers for tensor in (layer.weight, layer.bias)]


def _through(inputs: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Returns what each layer makes of what comes from the one before."""
    found, last = [inputs], len(parameters) // 2 - 1
    for index in range(last + 1):
        weight, bias = parameters[2 * index : 2 * index + 2]
        out = torch.addmm(bias, found[-1], weight.t())
        found.append(out.tanh_() if index < last else out)
    return found[1:]


def _back(gradient: Tensor, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Goes back through a network.

    Args:
        gradient: Derivative with respect to its output.
        inputs: What went into each layer.
        parameters: Weight and bias of each layer in turn.

    Returns:
        The derivative with respect to each of the parameters.
    """
    found: list[Tensor] = []
    for index in reversed(range(len(inputs))):
        found = [gradient.t() @ inputs[index], gradient.sum(0), *found]
        if index:
            below = gradient @ parameters[2 * index]
            gradient = _tanh_backward(below, inputs[index])
    return found
