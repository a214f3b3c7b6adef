"""A trained agent as a controller: it runs wherever a controller runs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from agents.asked import SCALES, described
from agents.bundle import find_bundle, load_policy, read_bundle, stale_calibrations
from agents.change_limit import ChangeLimitedPolicy
from agents.compatibility import bound_encoding, grid_mismatch, observation_mismatch
from agents.limit_loop import LimitKeepingPolicy, LimitLoop
from agents.memory import Memory, Remembering
from agents.shield import BudgetShield
from agents.shielded_policy import ShieldedPolicy
from baselines.base import Controller, Policy, Preparation
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.fields import Checked
from envs.quantities import Batch, Gain, Positive, PositiveFraction


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
        violation_limit: Rate of QoS violations that the operator allows; only a limit-conditioned
            agent can be asked for it.
        switch_price: What an interval in which a knob moves costs, in the units of the reward;
            only a limit-conditioned agent knows of it.
        changes_per_min: Knob changes in a minute that it does not exceed in the long run, but for
            caps that a budget lowers; ``None`` for no bound.
        latency_slos: Whether the policy is shown the latency SLOs that are demanded. Rules and
            PALS, which know of none, give an SLO up where that saves energy; so does a policy
            that is not shown it.
        loop: How what the agent is asked for follows the violations that are measured.
    """

    config_key: ClassVar[str] = "controller"

    bundle: str
    device: str = "cpu"
    fixed_max_num_seqs: Batch | None = None
    violation_limit: PositiveFraction = 0.02
    switch_price: Gain = 0.05
    changes_per_min: Positive | None = 50.0
    latency_slos: bool = True
    loop: LimitLoop = field(default_factory=LimitLoop)

    def __post_init__(self) -> None:
        """Reads the bundle's facts.

        Raises:
            ConfigurationError: There is no such bundle, or it is damaged.
        """
        super().__post_init__()
        self._folder = find_bundle(self.bundle)
        self.facts = read_bundle(self._folder)
        names = [entry["name"] for entry in self.facts.observation]
        self._conditioned = names[-len(SCALES) :] == list(SCALES)
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
        entries = self.facts.observation
        known = entries[: -len(SCALES)] if self._conditioned else entries
        memory = Memory.of(known)
        remembered = memory.described(context.layout)
        count = len(known) - len(remembered)
        found = observation_mismatch(known[:count], context.layout)
        if not found and known[count:] != remembered:
            found.append("what it remembers was scaled differently")
        if self._conditioned and entries[-len(SCALES) :] != described():
            found.append("what it can be asked for was scaled differently")
        own = bound_encoding(self.facts.action, context.limits, context.grid)
        found += grid_mismatch(self.facts.grid, own.grid)
        if found:
            raise ConfigurationError(
                f"controller.bundle: the agent in {self._folder} does not fit this server: "
                + "; ".join(found)
            )
        if own.grid.sm_clocks_mhz and not context.grid.sm_clocks_mhz:
            raise ConfigurationError(
                f"controller.bundle: the agent in {self._folder} sets the SM clock: it needs "
                "action.sm_clock=true"
            )
        taught_s = self.facts.configuration.get("interval")
        if isinstance(taught_s, int | float) and abs(taught_s - context.interval_s) > 1e-9:
            warnings.warn(
                f"{self._folder}: trained on decisions every {taught_s:g} s, and here they are "
                f"{context.interval_s:g} s apart; it may violate QoS far more often than it is "
                "asked to",
                stacklevel=2,
            )
        self._context = context
        self._own = own
        self._slos = [context.layout.index(name) for name in ("ttft_slo_s", "tpot_slo_s")]
        same = type(own) is type(context.encoding) and own.grid == context.grid
        self._translate = not same or self.fixed_max_num_seqs is not None
        policy: Policy = load_policy(self._folder, self.facts, own.space, self.device)
        if self.changes_per_min is not None:
            policy = ChangeLimitedPolicy(
                policy, own, context,
                per_minute=self.changes_per_min, batch=self.fixed_max_num_seqs is None,
            )  # fmt: skip
        shield = BudgetShield([context], [own]) if self.facts.shield else None
        policy = ShieldedPolicy(policy, shield)
        if self._conditioned:
            policy = LimitKeepingPolicy(
                policy, self.loop, self.violation_limit, self.switch_price, context
            )
        remembering = Remembering(memory, context.layout, context.interval_s)
        self._policy = remembering.policy(policy)

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
        """Returns an action and the next state; see :class:`baselines.base.Policy`.

        Raises:
            ValueError: It is no observation of this server, or the state is that of another number
                of servers.
        """
        seen = np.asarray(observation, dtype=np.float32)
        self._check(seen)
        if not self.latency_slos:
            seen = seen.copy()
            seen[..., self._slos] = self._context.layout.high[self._slos]  # reads as no SLO
        action, state = self._policy.predict(seen, state, episode_start, deterministic)
        if self._translate:
            action = self._translated(action, seen)
        return action, state

    def _check(self, seen: NDArray[np.float32]) -> None:
        layout = self._context.layout
        if seen.ndim not in (1, 2) or seen.shape[-1] != len(layout.high):
            raise ValueError(
                f"observation: must have {len(layout.high)} entries, or that many a server, got "
                f"the shape {seen.shape}"
            )
        if not np.isfinite(seen).all():  # a network would make some action of it
            place = int(np.argwhere(~np.isfinite(seen))[0, -1])
            raise ValueError(f"observation: {layout.names[place]} (entry {place}) is not finite")

    def _translated(self, action: Any, observation: NDArray[np.float32]) -> Any:
        seen = self._context.layout.decode(observation)
        current = seen.last_knobs
        knobs = self._own.decode(action, current)
        if self.fixed_max_num_seqs is not None:
            knobs = knobs._replace(
                max_num_seqs=np.full_like(knobs.max_num_seqs, self.fixed_max_num_seqs)
            )
        return self._context.encoding.encode(knobs, current)
