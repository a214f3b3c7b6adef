"""Many simulated servers as one Gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs import EPISODE_STEPS
from envs.actions.base import ActionEncoding, group_by_grid
from envs.arguments import expect, expect_whole, unexpected
from envs.context import ControlContext
from envs.episode import Evaluation
from envs.errors import ActionError, ConfigurationError
from envs.finite import real_array
from envs.knobs import Knobs
from envs.loop import ControlLoop
from envs.objectives.conditions import Conditions
from envs.objectives.objective import Objective
from envs.rewards import Reward
from envs.serving import ServingEnv, episode_seeds
from envs.simulator.fleet import Fleet
from envs.simulator.kernel.lockstep import step_many
from envs.simulator.server import SimulatedServer
from envs.simulator.server_spec import ServerSpec
from envs.task import ControlTask
from envs.telemetry import COLUMN, MODELLED, Telemetry


@dataclass(frozen=True)
class VectorServer:
    """One server of a vector.

    Attributes:
        server_spec: What is simulated.
        objective: What is demanded of it.
        encoding: How actions become its knobs.
    """

    server_spec: ServerSpec
    objective: Objective
    encoding: ActionEncoding

    def __post_init__(self) -> None:
        """Checks the class of each part."""
        expect("server_spec", self.server_spec, ServerSpec)
        expect("objective", self.objective, Objective)
        expect("encoding", self.encoding, ActionEncoding)

    @classmethod
    def like(cls, env: ServingEnv) -> VectorServer:
        """Returns the server of a single environment.

        Raises:
            ConfigurationError: It is not a simulated one.
        """
        expect("env", env, ServingEnv)
        if not isinstance(env.system, SimulatedServer):
            raise ConfigurationError(
                f"server: {type(env.system).__name__} cannot be stepped with others in one call; "
                "only simulated servers can"
            )
        return cls(env.system.server_spec, env.objective, env.encoding)


class VectorServingEnv(gym.vector.VectorEnv[NDArray[np.float32], Any, NDArray[Any]]):
    """Steps ``num_envs`` simulated servers by one compiled call, in parallel.

    Server ``i`` of ``reset(seed=s)`` behaves exactly as the single environment of the same
    setting does after ``reset(seed=s + i)``. Servers may differ in workload, objective, model
    and GPU type, as long as their action spaces agree.

    ``info`` holds the same keys as that of :class:`~envs.serving.ServingEnv`, each with a
    leading axis of servers.

    Args:
        servers: The servers; the same object may stand in many places.
        reward: Reward terms, the same for all.
        interval_s: Length of a control interval in seconds.
        horizon_s: Time over which the objectives' signals are laid out; later they repeat.
        max_episode_steps: Steps after which an episode is truncated.
        autoreset_mode: ``next_step`` (Gymnasium's default: the step after a truncation
            resets and ignores the action), ``same_step`` or ``disabled``.
        randomize: Draws each server's calibration again for every episode.
        latency: Whether ``fleet.latency`` can be asked for; counting costs time.
    """

    def __init__(
        self,
        servers: Sequence[VectorServer],
        reward: Reward,
        *,
        interval_s: float = 0.5,
        horizon_s: float = 600.0,
        max_episode_steps: int = EPISODE_STEPS,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        randomize: bool = False,
        latency: bool = True,
    ) -> None:
        expect("servers", servers, Sequence)
        if not servers:
            raise ConfigurationError("servers: a vector needs at least one server")
        for index, server in enumerate(servers):
            expect(f"servers[{index}]", server, VectorServer)
        expect("reward", reward, Reward)
        expect_whole("max_episode_steps", max_episode_steps, 1)
        for name, value in (("randomize", randomize), ("latency", latency)):
            expect(name, value, bool, np.bool_)
        self.num_envs = len(servers)
        tasks = _tasks(servers, interval_s, horizon_s)
        encoding = servers[0].encoding
        for server in servers:
            if server.encoding.space != encoding.space:
                raise ConfigurationError(
                    "action: servers of one vector need the same action space; "
                    f"{server.encoding.space} is not {encoding.space}"
                )
        self.contexts: list[ControlContext] = [task.context for task in tasks]
        """What a controller of each server is told."""
        self.max_episode_steps = max_episode_steps
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.contexts[0].layout.space
        self.single_action_space = encoding.space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.interval_s = interval_s
        self._planners = [task.planner for task in tasks]
        self._groups = group_by_grid([server.encoding for server in servers])
        server_specs = [server.server_spec for server in servers]
        self.fleet = Fleet(server_specs, randomize=randomize, latency=latency)
        self._reference: Fleet | None = None
        if reward.qos_definition == "reference":
            self._reference = Fleet(server_specs, randomize=randomize, latency=False)
        self.fleet.set_warmup(np.array([server.objective.qos.warmup_s for server in servers]))
        self._loop = ControlLoop(
            [task.setting for task in tasks],
            reward,
            interval_s,
            self.fleet.telemetry,
            self._reference.telemetry if self._reference else None,
        )
        self._generators = [np.random.default_rng() for _ in servers]
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._all = np.arange(self.num_envs)

    @property
    def generators(self) -> list[np.random.Generator]:
        """The generator of each server; only the start of an episode draws from it."""
        return self._generators

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts episodes.

        Args:
            seed: Server ``i`` is seeded with ``seed + i``, or with the i-th of a list;
                ``None`` goes on with the current generators.
            options: ``{"reset_mask": mask}`` resets only the servers that the boolean array
                of shape ``(num_envs,)`` picks.
        """
        mask = np.ones(self.num_envs, dtype=np.bool_)
        if options and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"], dtype=np.bool_)
            if mask.shape != (self.num_envs,):
                raise ConfigurationError(
                    f"options: reset_mask must hold one for each of the {self.num_envs} servers, "
                    f"got {options['reset_mask']!r}"
                )
        seeds: list[int | None] = [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            seeds = [int(seed) + index for index in range(self.num_envs)]
        elif seed is not None:
            seeds = list(seed)
            if len(seeds) != self.num_envs:
                raise ConfigurationError(
                    f"seed: a list must hold one for each of the {self.num_envs} servers, got "
                    f"{seed!r}"
                )
        for index in np.flatnonzero(mask).tolist():
            if seeds[index] is not None:
                self._generators[index], _ = gym.utils.seeding.np_random(seeds[index])
        self._start(np.flatnonzero(mask))
        return self._loop.observations.copy(), {
            "telemetry": self._telemetry(self.fleet.telemetry.copy()),
            "conditions": Conditions(*self._loop.coming.T.copy()),
        }

    def step(
        self, actions: Any
    ) -> tuple[
        NDArray[np.float32], NDArray[np.float64], NDArray[Any], NDArray[Any], dict[str, Any]
    ]:
        """Sets each server's knobs and lets one interval pass; see :meth:`ServingEnv.step`.

        Truncated servers are reset as :attr:`autoreset_mode` says. In the mode ``same_step``
        ``info["final_obs"]`` holds the last observation of those that ``info["_final_obs"]``
        marks.

        Raises:
            WorkloadError: A server was never reset.
            ActionError: An action is outside its space, or there is not one for each server.
        """
        self.fleet.refuse_unborn()
        knobs = self._decode(actions)
        ended = self._ended  # by the step before; with next-step autoreset they start again now
        restart = bool(ended.any()) and self.autoreset_mode is AutoresetMode.NEXT_STEP
        loop, rows = self._loop, self.fleet.telemetry
        self._advance(knobs, np.flatnonzero(~ended) if restart else self._all)
        rows = rows.copy()
        telemetry = self._telemetry(rows, knobs)
        evaluated = loop.evaluate(telemetry, knobs)
        self._elapsed += 1
        truncated = self._elapsed >= self.max_episode_steps
        if restart:
            self._start(np.flatnonzero(ended))
            rows[ended] = self.fleet.telemetry[ended]
            telemetry = self._telemetry(rows, knobs)
            evaluated = _blank(evaluated, ended, loop.conditions)
            truncated &= ~ended
        info: dict[str, Any] = {
            "telemetry": telemetry,
            "conditions": evaluated.conditions,
            "knobs": knobs,
            "rewards": evaluated.terms,
            "cost": evaluated.cost,
            "throughput_tok_s": evaluated.throughput_tok_s,
            "violation_backlog": evaluated.violation_backlog,
            "violation_plain": evaluated.violation_plain,
        }
        self._ended = truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and truncated.any():
            info["final_obs"] = loop.observations.copy()
            info["_final_obs"] = truncated
            self._start(np.flatnonzero(truncated))
        never = np.zeros(self.num_envs, dtype=np.bool_)
        return loop.observations.copy(), evaluated.reward, never, truncated.copy(), info

    def _advance(self, knobs: Knobs, which: NDArray[np.int64]) -> None:
        """Lets one interval pass on some servers, and on their reference."""
        loop, fleet = self._loop, self.fleet
        loop.ask(knobs)
        if self._reference is not None:
            self._reference.advance(self.interval_s, which)

        def run(pending: NDArray[np.int64], status: NDArray[np.int64]) -> None:
            step_many(pending, loop.addresses, fleet.addresses, status)

        fleet.drive(which, self.interval_s, run)

    def action_masks(self) -> NDArray[np.bool_]:
        """Action masks of all servers, shape ``(num_envs, mask length)``; see ``ServingEnv``."""
        budget = self._loop.conditions.power_budget_w
        requested = self._loop.requested
        rows = []
        for index, context in enumerate(self.contexts):
            knobs = Knobs(*(field[index] for field in requested))
            limit = context.cap_limit_w(budget[index])
            rows.append(context.encoding.masks(limit, knobs))
        return np.stack(rows)

    def _start(self, indices: NDArray[np.int64]) -> None:
        """Starts an episode of each of these servers."""
        for index in indices.tolist():
            system_seed, demands_seed = episode_seeds(self._generators[index])
            self.fleet.reset(index, system_seed)
            if self._reference is not None:
                self._reference.reset(index, system_seed)
            self._loop.reset(index, self._planners[index].plan(demands_seed))
        self._elapsed[indices] = 0
        self._ended = self._ended.copy()
        self._ended[indices] = False
        coming = self._loop.conditions
        self.fleet.set_slos(coming.ttft_slo_s, coming.tpot_slo_s)

    def _decode(self, given: Any) -> Knobs:
        current = self._loop.requested
        try:
            actions = real_array(given)
        except ValueError as error:
            raise self._no_actions(f"{given!r}: {error}") from error
        if actions.ndim == 0 or len(actions) != self.num_envs:
            raise self._no_actions(str(actions))
        if len(self._groups) == 1:
            knobs = self._groups[0][0].decode(actions, current)
            if np.shape(knobs.power_cap_w) != (self.num_envs,):
                raise self._no_actions(str(actions))  # a single one would be taken for all
            return knobs
        cap, seqs = np.empty(self.num_envs), np.empty(self.num_envs, dtype=np.int64)
        clock = np.full(self.num_envs, np.inf)
        for encoding, members in self._groups:
            knobs = encoding.decode(actions[members], Knobs(*(f[members] for f in current)))
            cap[members], seqs[members] = knobs.power_cap_w, knobs.max_num_seqs
            if knobs.sm_clock_mhz is not None:
                clock[members] = knobs.sm_clock_mhz
        return Knobs(cap, seqs, clock if self._groups[0][0].sm_clock else None)

    def _no_actions(self, got: str) -> ActionError:
        one, count = self.single_action_space, self.num_envs
        return ActionError(
            f"action: must be one of {one} for each of the {count} servers, got {got}"
        )

    def _telemetry(self, rows: NDArray[np.float64], knobs: Knobs | None = None) -> Telemetry:
        """Returns telemetry whose fields are columns of ``rows``."""
        gpus = (rows[:, COLUMN.power_w, None] * self.fleet.power_fractions).T
        return Telemetry.from_row(
            rows.T,
            gpu_power_w=tuple(gpus),
            requested=knobs or self._loop.requested,
            power_source=MODELLED,
        )


def _blank(evaluated: Evaluation, where: NDArray[np.bool_], coming: Conditions) -> Evaluation:
    """Returns zeros for servers on which no interval has passed, and what comes for them."""

    def blank(values: Any) -> Any:
        return np.where(where, 0.0, values)

    return Evaluation(
        reward=blank(evaluated.reward),
        terms={name: blank(term) for name, term in evaluated.terms.items()},
        conditions=Conditions(
            *(np.where(where, *pair) for pair in zip(coming, evaluated.conditions, strict=True))
        ),
        cost=blank(evaluated.cost),
        throughput_tok_s=blank(evaluated.throughput_tok_s),
        violation_backlog=blank(evaluated.violation_backlog),
        violation_plain=blank(evaluated.violation_plain),
    )


def _tasks(
    servers: Sequence[VectorServer], interval_s: float, horizon_s: float
) -> list[ControlTask]:
    """Returns the task of each server, made once for each object that stands for several."""
    made: dict[int, ControlTask] = {}
    for server in servers:
        if id(server) not in made:
            made[id(server)] = ControlTask(
                server.server_spec,
                server.objective,
                server.encoding,
                interval_s=interval_s,
                horizon_s=horizon_s,
                power_caps_w=server.server_spec.gpu.power_caps_w,
            )
    return [made[id(server)] for server in servers]


def _mode(mode: str | AutoresetMode) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    try:
        return AutoresetMode[mode.upper()]
    except (KeyError, AttributeError, TypeError):  # no such name, or no name at all
        known = "one of " + ", ".join(item.name.lower() for item in AutoresetMode)
        raise unexpected("autoreset_mode", known, mode) from None
