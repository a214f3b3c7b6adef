"""A server in a Ray actor, seen from the coordinator (``server=ray``)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from typing_extensions import override

from envs import catalog
from envs.cluster.errors import NodeDiedError, NodeHangsError, NodeStartingError
from envs.cluster.ray_actor import Place, ServerActor, ServerFacts, end
from envs.cluster.ray_config import RayServerConfig, server_itself
from envs.errors import ConfigurationError, PalsError
from envs.knobs import Knobs
from envs.latency import LatencyRecord
from envs.scenario import Scenario
from envs.serving import ServingEnv
from envs.system import ServingSystem
from envs.telemetry import Telemetry

BuildEnv = Callable[[Scenario], ServingEnv]
_SIMULATED_TIMEOUT_S = 60.0


class RayServer(ServingSystem):
    """Implements :class:`envs.system.ServingSystem` by messages to an actor.

    One message per interval carries the knobs there and the telemetry back. An actor that has
    ended or does not answer raises a typed error and is abandoned: :meth:`reset` starts another
    one and raises :class:`NodeStartingError` until it is ready, so that other nodes do not wait.
    A live server's guard on the actor's machine restores the knobs by itself.

    Args:
        config: Where and how the actor runs.
        build: Builds the environment around the server there.
        scenario: The scenario of the server itself.

    Raises:
        PalsError: The server could not be built.
    """

    def __init__(self, config: RayServerConfig, build: BuildEnv, scenario: Scenario) -> None:
        self._config = config
        self._build, self._scenario = build, scenario
        otherwise = _SIMULATED_TIMEOUT_S if scenario.is_simulated else scenario.interval_s
        self._slack_s = config.call_timeout_s or otherwise
        self._actor: Any = None
        self._place: Place | None = None
        self._ready: Any = None
        self._knobs: Knobs | None = None
        self._slos: tuple[float, float] | None = None
        self._warmup_s = 0.0
        self.extras: dict[str, float] = {}
        _join_ray(config)
        self._start()
        facts = self._facts(config.start_timeout_s)
        self.knob_limits = facts.knob_limits
        self.num_gpus = facts.num_gpus
        self.capacity_tok_s = facts.capacity_tok_s
        self.rated_power_w = facts.rated_power_w
        self.offered_tok_s = facts.offered_tok_s
        self.system_power = facts.system_power
        self.power_caps_w = facts.power_caps_w

    @property
    def actor(self) -> Any:
        """Handle of the actor; ``None`` while there is none."""
        return self._actor

    def _start(self) -> None:
        import ray

        remote = ray.remote(ServerActor).options(
            num_cpus=self._config.num_cpus,
            num_gpus=self._config.num_gpus,
            resources=dict(self._config.resources) or None,
            max_restarts=0,
            max_concurrency=1,
        )
        self._actor = remote.remote()
        self._ready = self._actor.build.remote(self._build, self._scenario)

    def _facts(self, timeout_s: float) -> ServerFacts:
        facts: ServerFacts = self._wait(self._ready, timeout_s, "starting")
        self._ready, self._place = None, facts.place
        return facts

    @override
    def reset(self, seed: int) -> Telemetry:
        """Starts an episode on the node; requests another actor if the last one is gone.

        Raises:
            NodeStartingError: The actor is being started again.
            ServerError: The node does not start.
        """
        if self._actor is None:
            self._start()
        if self._ready is not None:
            import ray

            done, _ = ray.wait([self._ready], timeout=0)
            if not done:
                raise NodeStartingError("the node is being started again; not ready yet")
            self._facts(self._slack_s)
        self._knobs, self.extras = None, {}
        limit_s = self._config.start_timeout_s
        telemetry: Telemetry = self._call("reset", limit_s, seed, self._warmup_s)
        return telemetry

    @override
    def apply(self, knobs: Knobs) -> None:
        """Keeps the knobs; the next :meth:`advance` sends them."""
        self._knobs = knobs

    @override
    def set_slos(self, ttft_slo_s: float, tpot_slo_s: float) -> None:
        """Keeps the SLOs; the next :meth:`advance` sends them."""
        self._slos = (ttft_slo_s, tpot_slo_s)

    @override
    def set_warmup(self, seconds: float) -> None:
        """Sets the warm-up from the next :meth:`reset` on."""
        self._warmup_s = seconds

    @override
    def advance(self, seconds: float) -> Telemetry:
        """Sends the knobs, lets time pass on the node and returns its telemetry.

        Raises:
            NodeDiedError: The actor is gone.
            NodeHangsError: It did not answer in time.
        """
        knobs, slos = self._knobs, self._slos
        self._knobs = self._slos = None
        telemetry: Telemetry
        telemetry, self.extras = self._call(
            "advance", seconds + self._slack_s, knobs, slos, seconds
        )
        return telemetry

    @override
    def latency(self) -> LatencyRecord:
        record: LatencyRecord = self._call("latency", self._slack_s)
        return record

    @override
    def close(self) -> None:
        """Ends the actor, which restores the knobs."""
        if self._actor is None:
            return
        try:
            self._call("close", self._config.start_timeout_s)
        finally:
            self._give_up()

    def _call(self, method: str, timeout_s: float, *arguments: Any) -> Any:
        if self._actor is None:
            raise NodeDiedError(f"{method}: there is no actor; reset() starts another one")
        return self._wait(getattr(self._actor, method).remote(*arguments), timeout_s, method)

    def _wait(self, answer: Any, timeout_s: float, what: str) -> Any:
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

        try:
            return ray.get(answer, timeout=timeout_s)
        except GetTimeoutError:
            self._end_there()
            self._give_up()
            raise NodeHangsError(
                f"{what}: no answer from the node within {timeout_s:g} s"
            ) from None
        except RayActorError as error:
            self._give_up()
            raise NodeDiedError(f"{what}: {_first_line(error)}") from None
        except RayTaskError as error:
            if not isinstance(error.cause, PalsError):
                raise
            self._give_up()
            raise error.cause from None

    def _end_there(self) -> None:
        """Makes the actor's own machine end its process, without waiting for it."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self._place is None:
            return
        there = NodeAffinitySchedulingStrategy(self._place.node_id, soft=False)
        with contextlib.suppress(Exception):  # the machine may be gone, or Ray with it
            ray.remote(end).options(num_cpus=0, scheduling_strategy=there).remote(self._place)

    def _give_up(self) -> None:
        """Abandons the actor; a live server's guard restores the knobs of its machine."""
        import ray

        actor, self._actor, self._ready, self._place = self._actor, None, None, None
        if actor is not None:
            with contextlib.suppress(Exception):  # it may be gone already, or Ray with it
                ray.kill(actor)


def _join_ray(config: RayServerConfig) -> None:
    """Joins a Ray cluster, unless this process has joined one."""
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError("server=ray needs Ray: pip install 'pals-gym[ray]'") from error
    if ray.is_initialized():
        return
    if config.address is not None:
        ray.init(address=config.address, log_to_driver=False)
        return
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=config.object_store_bytes,
        # Ray runs its workers at low priority by default (nice 15); a controller must act in time.
        _system_config={"worker_niceness": 0},
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def remote_env(scenario: Scenario, build: BuildEnv) -> ServingEnv:
    """Builds an environment whose server lives in a Ray actor.

    Args:
        scenario: A scenario whose ``server`` is a
            :class:`~envs.cluster.ray_config.RayServerConfig`; its ``inner`` is the server itself.
        build: What builds environments, :func:`envs.factory.make_env`; it is called in the actor.

    Raises:
        PalsError: The configuration is wrong, or the node does not start.
    """
    config: RayServerConfig = catalog.build("server", scenario.server)
    encoding = catalog.build("action", scenario.action)
    system = RayServer(config, build, inner_scenario(scenario))
    try:
        return ServingEnv(
            system,
            catalog.build("objective", scenario.objective),
            encoding,
            catalog.build("reward", scenario.reward),
            interval_s=scenario.interval_s,
            horizon_s=scenario.duration_s,
            power_caps_w=system.power_caps_w,
        )
    except BaseException:
        system.close()
        raise


def inner_scenario(scenario: Scenario) -> Scenario:
    """Returns the scenario of the server itself, for the process that holds it.

    Objective and reward stay with the coordinator.
    """
    return replace(server_itself(scenario), objective=Scenario.objective, reward=Scenario.reward)
