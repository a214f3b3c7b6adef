"""The offline profile of a server: every cap and batch limit, measured at saturation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np

from baselines.profile import ProfileRow
from envs import catalog
from envs.errors import ConfigurationError, DeviceError, InfeasibleModelError
from envs.factory import make_env
from envs.fields import Checked, Range
from envs.knobs import Knobs
from envs.live.config import DEFAULT_MAX_NUM_SEQS
from envs.live.server import LiveServer
from envs.quantities import GPUs, Seconds, Seed
from envs.scenario import Scenario, described
from envs.serving import ServingEnv
from envs.system import ServingSystem
from envs.workloads.base import RequestStream, Workload

OnSetting = Callable[[int, int], None]
_BACKLOG = 2
"""Requests in flight per place in the batch: the batch is full and the queue never empty."""


class Parallelism(NamedTuple):
    """How a server is spread over its GPUs: tensor-, expert- and data-parallel sizes."""

    tensor: int
    expert: int
    data: int


@dataclass(kw_only=True)
class ProfileConfig(Checked):
    """How a profile is made (arXiv:2605.21427 §3.2 says which inputs, not how long).

    Attributes:
        path: A finished ``profile.json`` to use; ``None`` takes the cached one, and on the
            simulator makes it when there is none.
        tensor_parallel: Tensor-parallel sizes to sweep on the simulator, besides the server's
            own; those that do not fit the model or the GPUs' memory are left out.
        settle_s: Time in seconds after a change of knobs that is not counted.
        measure_s: Time in seconds over which a setting is measured.
        seed: Seed of the requests.
    """

    config_key: ClassVar[str] = "profile"

    path: str | None = None
    tensor_parallel: list[GPUs] = field(default_factory=lambda: [1, 2, 4])
    settle_s: Seconds = 20.0
    measure_s: Seconds = 60.0
    seed: Seed = 0


@dataclass(kw_only=True)
class Saturating(Workload):
    """The requests of another workload, always more of them than the batch has places.

    Attributes:
        requests: The workload that the requests are taken from.
        in_flight: Requests kept in flight.
    """

    load: float | None = None
    requests: Any = None
    in_flight: Annotated[int, Range(least=1, most=10_000_000)] = 128

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean prompt length in tokens."""
        return float(self.requests.mean_prompt_tokens)

    @property
    def mean_output_tokens(self) -> float:
        """Mean output length in tokens."""
        return float(self.requests.mean_output_tokens)

    @property
    def concurrency(self) -> int | None:
        """Requests kept in flight."""
        return self.in_flight

    def stream(self, rng: np.random.Generator, rate_per_s: float) -> RequestStream:
        """Starts the sequence of requests; arrival times do not matter."""
        stream: RequestStream = self.requests.stream(rng, rate_per_s)
        return stream


def sweep(
    scenario: Scenario, settings: ProfileConfig, on_setting: OnSetting | None = None
) -> list[ProfileRow]:
    """Measures a server at every setting of its grid, and at several sizes on the simulator.

    Args:
        scenario: What is controlled.
        settings: How to measure.
        on_setting: Called after every setting with how many are done and how many there are.

    Raises:
        PalsError: The server's own configuration is impossible, a live server fails, or there was
            nothing to measure.
    """
    workload = saturating(scenario)
    envs = list(_environments(scenario, settings, workload))
    try:
        todo = [(env, server, knobs) for env, server in envs for knobs in _grid(env)]
        rows = []
        for done, (env, server, knobs) in enumerate(todo, start=1):
            row = _measure(env.system, server, workload, knobs, settings)
            if not row.power_w > 0.0:
                raise DeviceError(
                    "server.device: it told no energy while a setting was measured (its counter "
                    "stands still), and nothing can be planned with such a profile"
                )
            rows.append(row)
            if on_setting is not None:
                on_setting(done, len(todo))
    finally:
        for env, _ in envs:
            env.close()
    if not any(row.throughput_tok_s > 0.0 for row in rows):
        raise ConfigurationError(
            "server.send_load: the server had no request of its users while it was measured; "
            "measure while they send some, or send the workload with server.send_load=true"
        )
    return rows


def _environments(
    scenario: Scenario, settings: ProfileConfig, workload: Saturating
) -> Iterator[tuple[ServingEnv, Parallelism]]:
    server: dict[str, Any] = described("server", scenario.server)
    own = int(server["tensor_parallel"])
    sizes = {own, *settings.tensor_parallel} if scenario.is_simulated else {own}
    for size in sorted(sizes):
        changed = replace(scenario, workload=workload)
        if size != own:
            other = {**server, "tensor_parallel": size, "num_gpus": None}
            changed = replace(changed, server=other)
        try:
            env = make_env(changed)
        except (ConfigurationError, InfeasibleModelError):
            if size == own:
                raise
            continue
        if not scenario.is_simulated:  # a live one tells its batch limit once it is there
            limit = env.system.knob_limits.max_num_seqs
            workload.in_flight = _backlog(limit, int(server["data_parallel"]))
        yield env, parallelism(changed)


def parallelism(scenario: Scenario) -> Parallelism:
    """Returns the parallel sizes of a scenario's server."""
    server: dict[str, Any] = described("server", scenario.server)
    return Parallelism(*(int(server[f"{key}_parallel"]) for key in ("tensor", "expert", "data")))


def saturating(scenario: Scenario) -> Saturating:
    """Returns the scenario's workload with its batch kept full."""
    server: dict[str, Any] = described("server", scenario.server)
    limit = int(server["max_num_seqs"] or DEFAULT_MAX_NUM_SEQS)
    requests: Workload = catalog.build("workload", scenario.workload)
    return Saturating(requests=requests, in_flight=_backlog(limit, int(server["data_parallel"])))


def _backlog(max_num_seqs: int, replicas: int) -> int:
    """Returns how many requests keep every place of a batch taken."""
    return _BACKLOG * max_num_seqs * replicas


def _grid(env: ServingEnv) -> list[Knobs]:
    if isinstance(env.system, LiveServer) and not env.system.config.sets_knobs:
        return [env.system.knob_limits.highest]  # what was found, and stays
    grid = env.context.grid
    return [Knobs(cap, seqs) for cap in grid.power_caps_w for seqs in grid.max_num_seqs]


def _measure(
    system: ServingSystem,
    server: Parallelism,
    workload: Workload,
    knobs: Knobs,
    settings: ProfileConfig,
) -> ProfileRow:
    system.reset(settings.seed)
    system.apply(knobs)
    system.advance(settings.settle_s)
    steps = max(1, round(settings.measure_s))
    seen = [system.advance(settings.measure_s / steps) for _ in range(steps)]
    seconds = sum(row.duration_s for row in seen)
    output = sum(row.output_tokens for row in seen)
    running = float(np.mean([row.running for row in seen]))
    usage = float(np.mean([row.kv_cache_usage for row in seen]))
    return ProfileRow(
        power_cap_w=float(knobs.power_cap_w),
        max_num_seqs=int(knobs.max_num_seqs),
        tensor_parallel=server.tensor,
        expert_parallel=server.expert,
        data_parallel=server.data,
        throughput_tok_s=output / seconds,
        prompt_tok_s=sum(row.prompt_tokens for row in seen) / seconds,
        power_w=sum(row.energy_gpu_j for row in seen) / seconds,
        tpot_s=_typical([(row.tpot_p50_s, row.tpot_samples) for row in seen])
        or running * seconds / max(output, 1.0),
        ttft_s=_typical([(row.ttft_p50_s, row.ttft_samples) for row in seen]),
        running=running,
        context_tokens=_context_tokens(system, usage, running, workload),
        sm_clock_mhz=float(np.mean([row.sm_clock_mhz for row in seen])),
    )


def _context_tokens(
    system: ServingSystem, kv_usage: float, running: float, workload: Workload
) -> float:
    """Returns the mean number of cached tokens per running request.

    A simulated server knows how much its cache holds. A live one does not tell; there it is
    the mean request halfway through its output.
    """
    from envs.simulator.server import SimulatedServer

    if isinstance(system, SimulatedServer) and running > 0:
        spec = system.server_spec.spec
        return kv_usage * spec.kv_blocks * spec.block_size / running
    return workload.mean_prompt_tokens + 0.5 * workload.mean_output_tokens


def _typical(medians: list[tuple[float, float]]) -> float:
    """Returns the mean of the intervals' medians, each counting as often as it had samples."""
    total = sum(samples for _, samples in medians)
    return sum(value * samples for value, samples in medians) / total if total else 0.0
