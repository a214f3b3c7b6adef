"""What a student learns from: observations, and what every plan costs from there."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.cache import atomic_write_bytes
from envs.errors import ConfigurationError
from envs.safe_files import read_regular
from experiments.imitation.plans import Plans
from experiments.imitation.teacher import Lesson

_FIELDS = ("observations", "base", "violations", "changes", "server")
_MOST_BYTES = 4 << 30


class Lessons(NamedTuple):
    """Some states, and what plans cost from them; each with a leading axis of states.

    Attributes:
        observations: Encoded observations, without what is asked for.
        base: See :class:`experiments.imitation.teacher.Lesson`, as all that follow.
        violations: Intervals in violation.
        changes: How often the knobs move.
        server: Whose state it is, shape ``(states,)``.
    """

    observations: Tensor
    base: Tensor
    violations: Tensor
    changes: Tensor
    server: Tensor

    @classmethod
    def of(cls, seen: Sequence[tuple[NDArray[Any], Lesson, NDArray[np.int64]]]) -> Lessons:
        """Returns the lessons of some observations, each with the indices of its servers."""
        columns = zip(*[(observation, *lesson) for observation, lesson, _ in seen], strict=True)
        tensors = [_tensor(np.concatenate(column)) for column in columns]
        tensors.append(torch.from_numpy(np.concatenate([which for *_, which in seen])))
        return cls(*tensors)

    @classmethod
    def together(cls, parts: Sequence[Lessons]) -> Lessons:
        """Returns all lessons of several rounds."""
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def save(self, file: Path) -> str:
        """Writes the lessons with half the digits, as they are used; returns the file's SHA-256."""
        buffer = io.BytesIO()
        columns: dict[str, Any] = {
            name: own.numpy() for name, own in zip(_FIELDS, self, strict=True)
        }
        np.savez_compressed(buffer, **columns)
        atomic_write_bytes(file, buffer.getvalue())
        return hashlib.sha256(buffer.getvalue()).hexdigest()

    @classmethod
    def load(cls, file: Path, expected: str) -> Lessons:
        """Reads lessons.

        Args:
            file: The file.
            expected: Its SHA-256 when it was written.

        Raises:
            ConfigurationError: The file is missing, or is not as it was written.
        """
        try:
            content = read_regular(file, _MOST_BYTES)
        except ConfigurationError as error:
            raise ConfigurationError(f"resume: {error}") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise ConfigurationError(f"resume: {file} is not as it was written")
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            return cls(*(torch.from_numpy(kept[name]) for name in _FIELDS))


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float16))


class Costs:
    """Costs of every action of the grid, for a price of violations and one of switching.

    Args:
        plans: The plans that were tried.
        most: Cost above the best action's at which an action is as bad as can be.

    Attributes:
        sizes: How many levels each knob of the grid has.
    """

    def __init__(self, plans: Plans, most: float) -> None:
        self._action = torch.from_numpy(plans.action)
        self.sizes = plans.sizes
        self._most = most

    def above_best(self, lessons: Lessons, price: Tensor, switch_price: Tensor) -> Tensor:
        """Returns what each action costs beyond the best one, ``(states, *sizes)``.

        An action costs what the cheapest plan costs that begins with it; one that no plan begins
        with is as bad as can be. Costs are divided by the
        root of one plus the price: else a high price would mean as little as the most an action
        can cost.

        Args:
            lessons: Some states.
            price: Price of an interval in violation, shape ``(states,)``.
            switch_price: Price of a change of knobs, likewise.
        """
        total = (
            lessons.base.float()
            + price[:, None] * lessons.violations.float()
            + switch_price[:, None] * lessons.changes.float()
        )
        cheapest = torch.full((len(total), math.prod(self.sizes)), torch.inf)
        where = self._action.expand(len(total), -1)
        cheapest = cheapest.scatter_reduce(1, where, total, "amin")
        above = cheapest - cheapest.amin(dim=1, keepdim=True)
        scale = (1.0 + price[:, None]).sqrt()
        return (above / scale).clamp(max=self._most).view(-1, *self.sizes)
