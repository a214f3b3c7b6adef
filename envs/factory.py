"""Builds environments from scenarios: what ``gymnasium.make`` calls."""

from __future__ import annotations

import numbers
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envs import EPISODE_STEPS, catalog
from envs.errors import ConfigurationError
from envs.objectives.objective import Objective
from envs.rewards import Reward
from envs.scenario import Named, Scenario
from envs.serving import ServingEnv

if TYPE_CHECKING:
    from envs.simulator.models import ModelSpec
    from envs.simulator.server_spec import ServerSpec
    from envs.simulator.vector import VectorServingEnv

_PER_SERVER = ("model", "gpu", "workload", "objective", "server", "calibration")
"""Parts of a scenario in which the servers of a vector may differ."""
_MOST_SERVERS = 100_000


def make_env(scenario: Scenario) -> ServingEnv:
    """Builds the environment around a scenario's server: simulated, live or in a Ray actor.

    This is the one place that knows every kind of server.

    Raises:
        PalsError: The scenario is wrong, or a live server cannot be reached.
    """
    from envs.cluster.ray_config import RayServerConfig
    from envs.live.config import VllmServerConfig
    from envs.simulator.config import SimulatedServerConfig

    match scenario.server_config:
        case SimulatedServerConfig():
            return simulated_env(scenario)
        case VllmServerConfig():
            from envs.live.factory import live_env

            return live_env(scenario)
        case RayServerConfig():
            from envs.cluster.ray_node import remote_env

            return remote_env(scenario, make_env)
        case other:
            raise ConfigurationError(
                f"server: {type(other).__name__} is not a kind of server that can be built"
            )


def make_simulated(render_mode: str | None = None, **parts: Any) -> ServingEnv:
    """Builds an environment around a simulated server (``pals/Simulated-v0``).

    Args:
        render_mode: ``rgb_array``, ``human`` or ``None``.
        **parts: Parts of a :class:`~envs.scenario.Scenario`, such as
            ``model="olmoe_1b_7b", workload={"base": "poisson_gsm8k", "load": 1.2}``.

    Raises:
        ConfigurationError: A name, key or value is wrong; the message names the key.
    """
    return simulated_env(Scenario.of(**parts), render_mode)


make_simulated.metadata = ServingEnv.metadata  # type: ignore[attr-defined]  # Gymnasium looks here


def simulated_env(scenario: Scenario, render_mode: str | None = None) -> ServingEnv:
    """Builds the environment around a scenario's simulated server.

    Args:
        scenario: The scenario.
        render_mode: ``rgb_array``, ``human`` or ``None``.

    Raises:
        ConfigurationError: A part of it is wrong; the message names the key.
    """
    from envs.simulator.server import SimulatedServer

    server_spec = build_server_spec(scenario)
    reward: Reward = catalog.build("reward", scenario.reward)
    objective: Objective = catalog.build("objective", scenario.objective)
    randomize = scenario.domain_randomization
    reference = None
    if reward.qos_definition == "reference":
        reference = SimulatedServer(server_spec, randomize=randomize)
    return ServingEnv(
        SimulatedServer(server_spec, randomize=randomize),
        objective,
        catalog.build("action", scenario.action),
        reward,
        interval_s=scenario.interval_s,
        horizon_s=scenario.duration_s,
        power_caps_w=server_spec.gpu.power_caps_w,
        reference=reference,
        render_mode=render_mode,
    )


def build_server_spec(scenario: Scenario) -> ServerSpec:
    """Builds the server of a scenario that is to be simulated.

    Raises:
        ConfigurationError: A part of it is wrong, or its server is live; the message names the
            key.
    """
    from envs.simulator.config import SimulatedServerConfig
    from envs.simulator.server_spec import ServerSpec

    server = scenario.server_config
    if not isinstance(server, SimulatedServerConfig):
        raise ConfigurationError(
            f"server: {type(server).__name__} is not simulated; choose server=simulated"
        )
    for key in ("gpu", "model"):
        if getattr(scenario, key) is None:
            raise ConfigurationError(f"{key}: a simulated server needs one")
    calibration = scenario.calibration
    return ServerSpec(
        gpu=catalog.build("gpu", scenario.gpu),
        model=catalog.build("model", scenario.model),
        server=server,
        workload=catalog.build("workload", scenario.workload),
        calibration=None if calibration is None else catalog.build("calibration", calibration),
    )


def build_model(choice: Named | ModelSpec) -> ModelSpec:
    """Builds a model from a name, a configuration, or the path of a ``config.json``."""
    model: ModelSpec = catalog.build("model", Scenario(model=choice).model)
    return model


def make_simulated_vector(
    num_envs: int = 1,
    max_episode_steps: int = EPISODE_STEPS,
    autoreset_mode: str = "next_step",
    record_latency: bool = False,
    **parts: Any,
) -> VectorServingEnv:
    """Builds a vector environment (``gymnasium.make_vec("pals/Simulated-v0", ...)``).

    Args:
        num_envs: Number of servers.
        max_episode_steps: Steps after which an episode is truncated.
        autoreset_mode: ``next_step``, ``same_step`` or ``disabled``.
        record_latency: Whether latencies are counted, so that they can be read; it costs time.
        **parts: Parts of a :class:`~envs.scenario.Scenario`. Each of ``model``, ``gpu``,
            ``workload``, ``objective``, ``server`` and ``calibration`` may be a list with one
            choice per server, or a shorter list that is repeated.

    Raises:
        ConfigurationError: A part is wrong, or servers do not go together.
    """
    from envs.simulator.vector import VectorServer, VectorServingEnv

    whole = isinstance(num_envs, numbers.Integral) and not isinstance(num_envs, bool)
    if not (whole and 1 <= num_envs <= _MOST_SERVERS):
        raise ConfigurationError(
            f"num_envs: must be a whole number of 1 to {_MOST_SERVERS:,}, got {num_envs!r}"
        )
    lists = {key: parts.pop(key) for key in _PER_SERVER if isinstance(parts.get(key), list | tuple)}
    for key, values in lists.items():
        if not values:
            raise ConfigurationError(f"{key}: a list with a choice for each server is empty")
        if len(values) > num_envs:
            raise ConfigurationError(
                f"{key}: a list of {len(values)} choices, one for each server, and there are "
                f"{num_envs} servers (num_envs)"
            )
    common = Scenario.of(**parts)
    built: dict[str, VectorServer] = {}
    servers = []
    for index in range(num_envs):
        own = {key: values[index % len(values)] for key, values in lists.items()}
        key = repr(sorted(own.items(), key=lambda item: item[0]))
        if key not in built:
            scenario = replace(common, **own)
            built[key] = VectorServer(
                build_server_spec(scenario),
                catalog.build("objective", scenario.objective),
                catalog.build("action", scenario.action),
            )
        servers.append(built[key])
    return VectorServingEnv(
        servers,
        catalog.build("reward", common.reward),
        interval_s=common.interval_s,
        horizon_s=common.duration_s,
        max_episode_steps=max_episode_steps,
        autoreset_mode=autoreset_mode,
        randomize=common.domain_randomization,
        latency=record_latency,
    )
