"""A trained agent as a controller: it runs wherever a controller runs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from agents.bundle import find_bundle, load_policy, read_bundle, stale_calibrations
from agents.compatibility import bound_encoding, grid_mismatch, observation_mismatch
from agents.shield import BudgetShield
from agents.shielded_policy import ShieldedPolicy
from baselines.base import Controller, Preparation
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.fields import Checked
from envs.knobs import Knobs
from envs.quantities import Batch


@dataclass(kw_only=True)
class Agent(Checked, Controller):
    """Acts by the policy of a bundle.

    The policy's actions go through the encoding it was trained with, and the resulting knobs
    through the server's own, so an agent works under every encoding.

    Attributes:
        bundle: Folder of the bundle or of a training, or the name of a shipped bundle.
        device: Torch device.
        fixed_max_num_seqs: Batch limit that replaces the policy's own; ``None`` lets the policy
            choose. The difference shows what the second knob is worth to the agent.
    """

    config_key: ClassVar[str] = "controller"

    bundle: str
    device: str = "cpu"
    fixed_max_num_seqs: Batch | None = None

    def __post_init__(self) -> None:
        """Reads the bundle's facts.

        Raises:
            ConfigurationError: There is no such bundle, or it is damaged.
        """
        super().__post_init__()
        self._folder = find_bundle(self.bundle)
        self.facts = read_bundle(self._folder)
        stale = stale_calibrations(self.facts.calibrations)
        if stale:
            warnings.warn(
                f"{self._folder}: trained on other coefficients of {', '.join(stale)} than "
                "conf/calibration holds now; train again for the best result",
                stacklevel=2,
            )

    def bind(self, context: ControlContext) -> None:
        """Checks that the bundle fits the server and loads the policy.

        Raises:
            ConfigurationError: Observations or knobs are not those it was trained with; the
                message says how they differ.
        """
        found = observation_mismatch(self.facts.observation, context.layout)
        own = bound_encoding(self.facts.action, context.limits, context.grid)
        found += grid_mismatch(self.facts.grid, own.grid)
        if found:
            raise ConfigurationError(
                f"controller.bundle: the agent in {self._folder} does not fit this server: "
                + "; ".join(found)
            )
        self._context = context
        self._own = own
        same = type(own) is type(context.encoding) and own.grid == context.grid
        self._translate = not same or self.fixed_max_num_seqs is not None
        self._policy = ShieldedPolicy(
            load_policy(self._folder, self.facts, own.space, self.device),
            BudgetShield([context], [own]) if self.facts.shield else None,
        )

    @override
    def prepare(self, preparation: Preparation) -> None:
        """Needs no preparation."""

    @override
    def predict(
        self,
        observation: NDArray[np.floating[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        seen = np.asarray(observation, dtype=np.float32)
        action, state = self._policy.predict(seen, state, episode_start, deterministic)
        return (self._translated(action, seen) if self._translate else action), state

    def _translated(self, action: Any, observation: NDArray[np.float32]) -> Any:
        seen = self._context.layout.decode(observation)
        current = Knobs(seen.last_power_cap_w, seen.last_max_num_seqs, seen.last_sm_clock_mhz)
        knobs = self._own.decode(action, current)
        if self.fixed_max_num_seqs is not None:
            knobs = knobs._replace(
                max_num_seqs=np.full_like(knobs.max_num_seqs, self.fixed_max_num_seqs)
            )
        return self._context.encoding.encode(knobs, current)
