"""The shield: no action of an agent sets a cap above what the power budget allows.

PALS and the rules filter their candidates in the same way (arXiv:2605.21427 §3.3, line 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from typing_extensions import override

from agents.budgets import PowerScopes
from envs.actions.base import ActionEncoding, group_by_grid
from envs.actions.grid import Grid
from envs.context import ControlContext
from envs.knobs import Knobs

_ROUNDING = 1e-4
"""Relative slack for the float32 observation."""
_LAST = tuple(f"last_{knob}" for knob in Knobs._fields)


class BudgetShield:
    """Lowers caps to the highest level that keeps the GPUs within the coming power budget.

    The lowest cap is always allowed: a server cannot be told to draw less.

    Args:
        contexts: What a controller knows about each server of a batch; one context for a
            batch of servers that are all alike.
        encodings: Encoding of each server's actions; by default the server's own.
    """

    def __init__(
        self,
        contexts: Sequence[ControlContext],
        encodings: Sequence[ActionEncoding] | None = None,
    ) -> None:
        layout = contexts[0].layout
        self._budget = layout.index("power_budget_w")
        self._unlimited = float(layout.high[self._budget])
        self._last = [layout.index(name) for name in _LAST]
        self._budget_unit = np.array([c.layout.scales["power_budget_w"].unit for c in contexts])
        self._last_units = np.array([[c.layout.scales[n].unit for n in _LAST] for c in contexts])
        self._scopes = PowerScopes(contexts)
        own = encodings or [context.encoding for context in contexts]
        self._groups = group_by_grid(own)
        self._levels_w = _grid_levels(own)

    def __call__(
        self, actions: NDArray[Any], observations: NDArray[np.floating[Any]]
    ) -> NDArray[Any]:
        """Returns the actions with every cap that exceeds the budget lowered.

        Args:
            actions: Actions, with a leading axis of servers.
            observations: The encoded observation that each action was chosen on.
        """
        budget = observations[:, self._budget]
        if (budget >= self._unlimited).all():
            return actions
        limit = self._scopes.cap_limit_w(budget * self._budget_unit * (1.0 + _ROUNDING))
        limit = np.where(budget >= self._unlimited, np.inf, limit)
        if self._levels_w is not None and actions.dtype.kind in "iu":
            return _lowered(actions, (self._levels_w <= limit[:, None]).sum(axis=1))
        current = (observations[:, self._last] * self._last_units).T
        result = np.array(actions)
        for encoding, members in self._groups:
            knobs = Knobs(*(entry[members] for entry in current))
            asked = encoding.decode(actions[members], knobs)
            caps = np.asarray(encoding.grid.power_caps_w)
            allowed = np.searchsorted(caps, limit[members], side="right")
            highest = caps[np.maximum(allowed, 1) - 1]
            over = asked.power_cap_w > highest
            safe = asked._replace(power_cap_w=np.minimum(asked.power_cap_w, highest))
            kept = over.reshape(-1, *[1] * (result.ndim - 1))
            result[members] = np.where(kept, encoding.encode(safe, knobs), actions[members])
        return result


def _grid_levels(encodings: Sequence[ActionEncoding]) -> NDArray[np.float64] | None:
    """Returns the caps that actions of servers stand for, shape ``(servers, levels)``.

    ``None`` where the first number of an action is not the index of a cap.
    """
    if not all(type(encoding) is Grid for encoding in encodings):
        return None
    caps = [encoding.grid.power_caps_w for encoding in encodings]
    levels = np.full((len(caps), max(map(len, caps))), np.inf)
    for row, own in zip(levels, caps, strict=True):
        row[: len(own)] = own
    return levels


def _lowered(actions: NDArray[Any], allowed: NDArray[np.int64]) -> NDArray[Any]:
    """Returns grid actions whose caps are among the lowest ``allowed`` ones, at least one."""
    result = actions.copy()
    result[:, 0] = np.minimum(actions[:, 0], np.maximum(allowed, 1) - 1)
    return result


class ShieldedVecEnv(VecEnvWrapper):
    """Puts the shield between an algorithm and its servers.

    Args:
        venv: The servers.
        contexts: What a controller knows about each server.
    """

    def __init__(self, venv: VecEnv, contexts: Sequence[ControlContext]) -> None:
        super().__init__(venv)
        self._shield = BudgetShield(contexts)
        self._seen: Any = None

    @override
    def reset(self) -> Any:
        self._seen = self.venv.reset()
        return self._seen

    def go_on(self, seen: NDArray[np.floating[Any]]) -> None:
        """Takes over the observations that the next actions will be chosen on."""
        self._seen = seen

    @override
    def step_async(self, actions: NDArray[Any]) -> None:
        """Sends shielded actions; the algorithm keeps the actions that it chose."""
        self.venv.step_async(self._shield(actions, self._seen))

    @override
    def step_wait(self) -> Any:
        result = self.venv.step_wait()
        self._seen = result[0]
        return result
