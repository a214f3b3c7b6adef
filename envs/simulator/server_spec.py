"""A server to be simulated: GPU, model, parallelism and workload."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from envs import catalog
from envs.errors import ConfigurationError, InfeasibleModelError
from envs.knobs import KnobLimits
from envs.simulator.calibration import Calibration, for_engine, randomize
from envs.simulator.config import SimulatedServerConfig
from envs.simulator.fleet import Fleet
from envs.simulator.gpus import GPUSpec
from envs.simulator.memory import kv_cache_tokens
from envs.simulator.models import ModelSpec
from envs.simulator.state import EngineSpec, FloatArray, Physics, power_times
from envs.simulator.step_model import Parallelism, compile_step_model
from envs.telemetry import COLUMN
from envs.workloads.base import Workload

_SETTLE_S, _MEASURE_S = 30.0, 120.0
"""Time to settle, and to measure, in seconds; both last longer where requests do."""
_SETTLE_BATCHES, _MEASURE_BATCHES = 3, 20
"""Full batches that have to finish in that time: a batch begins together, so that what finishes
comes in lumps at first."""
_LONGEST_S = 7200.0
"""Longest time to measure for."""


ALPHA_FACTOR = (0.97, 1.03)
BETA_FACTOR = (0.95, 1.05)
"""Factors on the node's alpha and beta: together about twice the error of arXiv:2605.21427 §3.1
(12 to 27 W at some 1.5 kW, beta 340 to 350 W)."""


class Rating(NamedTuple):
    """What the Baseline strategy delivers.

    Attributes:
        output_tok_s: Output tokens per second.
        requests_per_s: Requests finished per second.
        power_w: Power of all GPUs together.
    """

    output_tok_s: float
    requests_per_s: float
    power_w: float


_RATINGS: dict[Any, Rating] = {}


@dataclass(frozen=True)
class ServerSpec:
    """A server to be simulated, an :class:`envs.system.RatedServer`; for one environment or many.

    Attributes:
        gpu: GPU type.
        model: Model.
        server: Parallelism and limits.
        workload: Arrivals and lengths.
        calibration: Coefficients of the GPU type; ``None`` takes the one the GPU names.
    """

    gpu: GPUSpec
    model: ModelSpec
    server: SimulatedServerConfig
    workload: Workload
    calibration: Calibration | None = field(default=None)

    def __post_init__(self) -> None:
        if self.model.heads % self.server.tensor_parallel:
            raise ConfigurationError(
                f"server.tensor_parallel: must divide model.heads ({self.model.heads}), "
                f"got {self.server.tensor_parallel}"
            )

    @cached_property
    def parallelism(self) -> Parallelism:
        """How the model is spread over GPUs."""
        server = self.server
        return Parallelism(
            tensor=server.tensor_parallel,
            expert=server.expert_parallel,
            data=server.data_parallel,
            gpus_per_node=server.gpus_per_node,
        )

    @cached_property
    def coefficients(self) -> Calibration:
        """The calibration in use, as it is for the server's version of the engine."""
        calibration: Calibration = self.calibration or catalog.build(
            "calibration", self.gpu.calibration
        )
        return for_engine(calibration, self.server.engine_version)

    @cached_property
    def knob_limits(self) -> KnobLimits:
        """The range of each knob."""
        return KnobLimits(
            power_cap_min_w=self.gpu.power_cap_min_w,
            power_cap_max_w=self.gpu.power_cap_max_w,
            max_num_seqs=self.server.max_num_seqs,
            sm_clock_min_mhz=self.gpu.sm_clock_min_mhz,
            sm_clock_max_mhz=self.gpu.sm_clock_max_mhz,
        )

    @property
    def num_gpus(self) -> int:
        """GPUs in all."""
        return int(self.server.num_gpus or 1)

    @property
    def system_power(self) -> tuple[float, float]:
        """``(alpha, beta_w)`` of all nodes the server fills."""
        return self.server.system_alpha, self.server.system_beta_w * self.server.num_nodes

    @cached_property
    def spec(self) -> EngineSpec:
        """What the engine is given, with the nominal calibration.

        Raises:
            InfeasibleModelError: The model does not fit into the GPUs' memory.
            ConfigurationError: ``server.max_model_len`` is longer than it can be.
        """
        tokens = kv_cache_tokens(
            self.gpu, self.model, self.parallelism, self.server.gpu_memory_utilization
        )
        blocks = tokens // self.server.block_size
        if not blocks:
            raise InfeasibleModelError(
                f"model {self.model.name!r} leaves room for {tokens} tokens of KV cache on "
                f"{self.gpu.name!r}, less than one block (server.block_size="
                f"{self.server.block_size}); raise server.tensor_parallel"
            )
        return EngineSpec(
            step_model=compile_step_model(
                self.gpu, self.model, self.parallelism, self.coefficients
            ),
            kv_blocks=blocks,
            block_size=self.server.block_size,
            max_num_seqs=self.server.max_num_seqs,
            max_num_batched_tokens=self.server.token_budget(self.gpu),
            max_model_len=self._longest_context(blocks * self.server.block_size),
            max_waiting=self.server.max_waiting,
            num_gpus=self.num_gpus,
            replicas=self.server.data_parallel,
            lockstep=self._replicas_in_lockstep,
            power_cap_min_w=self.gpu.power_cap_min_w,
            power_cap_w=self.gpu.power_cap_max_w,
            sm_clock_min_mhz=self.gpu.sm_clock_min_mhz,
            sm_clock_max_mhz=self.gpu.sm_clock_max_mhz,
            power_times=power_times(self.coefficients),
            system_power=self.system_power,
            exact_steps=self.server.exact_steps,
            prefix_caching=self.caches_prefixes,
            texts=self.workload.prompt_texts,
        )

    @cached_property
    def caches_prefixes(self) -> bool:
        """Whether full KV blocks are found again by requests that begin alike."""
        asked = self.server.prefix_caching
        return len(self.workload.prompt_texts.ids) > 0 if asked is None else asked

    @property
    def _replicas_in_lockstep(self) -> int:
        """Replicas whose tokens meet at the same experts."""
        if not self.model.experts:
            return 1
        return int(self.parallelism.replicas_per_expert_group)

    def _longest_context(self, cache_tokens: int) -> int:
        asked = self.server.max_model_len
        if asked is None:
            return min(self.model.max_model_len, cache_tokens)
        for limit, what in (
            (self.model.max_model_len, f"the context of {self.model.name!r}"),
            (cache_tokens, "the KV cache"),
        ):
            if asked > limit:
                raise ConfigurationError(
                    f"server.max_model_len: {asked} tokens are more than {what} holds ({limit})"
                )
        return asked

    def randomized(self, rng: np.random.Generator) -> Physics:
        """Draws physics within the uncertainty about the calibration and the node."""
        drawn = randomize(self.coefficients, rng)
        alpha, beta_w = self.system_power
        return Physics(
            step_model=compile_step_model(self.gpu, self.model, self.parallelism, drawn),
            power_times=power_times(drawn),
            system_power=(alpha * rng.uniform(*ALPHA_FACTOR), beta_w * rng.uniform(*BETA_FACTOR)),
            device_spread=drawn.device_spread,
        )

    def rate(self, concurrency: int) -> Rating:
        """Measures Baseline with a fixed number of requests in flight (once per process)."""
        spec = self.spec
        physics = np.asarray(spec.step_model).tobytes()
        arrays = ("step_model", "texts")  # the first has its bytes here, the other its workload
        numbers = tuple(value for name, value in vars(spec).items() if name not in arrays)
        key = physics, numbers, repr(self.workload), concurrency
        if key not in _RATINGS:
            _RATINGS[key] = self._measure(concurrency)
        return _RATINGS[key]

    def _measure(self, concurrency: int) -> Rating:
        fleet = Fleet([self])
        rng = np.random.default_rng(0)
        fleet.begin(0, self.workload.endless().stream(rng, 1.0), concurrency)
        batch = min(concurrency, self.server.max_num_seqs * self.server.data_parallel)
        _until_finished(fleet, _SETTLE_S, _SETTLE_BATCHES * batch)
        seconds, row = _until_finished(fleet, _MEASURE_S, _MEASURE_BATCHES * batch)
        finished = float(row[COLUMN.finished])
        if finished < batch:  # none, or the shortest ones of a workload that does not fit
            count = "not one request" if finished == 0 else f"only {finished:g} requests"
            raise ConfigurationError(
                f"workload: {count} of it finished within {seconds:g} "
                f"simulated seconds on {self.model.name} ({self.num_gpus} x {self.gpu.name}); "
                "its requests are too long for this model's context "
                f"({self.spec.max_model_len} tokens) or for this server"
            )
        return Rating(
            output_tok_s=float(row[COLUMN.output_tokens]) / seconds,
            requests_per_s=finished / seconds,
            power_w=float(row[COLUMN.energy_gpu_j]) / seconds,
        )

    @cached_property
    def saturated(self) -> Rating:
        """Baseline with more work than fits its batch."""
        return self.rate(2 * self.server.max_num_seqs * self.server.data_parallel)

    @property
    def capacity_tok_s(self) -> float:
        """Output tokens per second of a saturated Baseline."""
        return self.saturated.output_tok_s

    @property
    def rated_power_w(self) -> float:
        """Power of all GPUs in that state."""
        return self.saturated.power_w

    @cached_property
    def rate_per_s(self) -> float:
        """Mean arrival rate in requests per second; of a closed loop, what Baseline serves."""
        if self.workload.concurrency is not None:
            return self.rate(self.workload.concurrency).requests_per_s
        return self.workload.rate_per_s(self.saturated.requests_per_s)

    @cached_property
    def offered_tok_s(self) -> float:
        """Output tokens per second that the workload asks for on average."""
        if self.workload.concurrency is not None:
            return self.rate(self.workload.concurrency).output_tok_s
        return self.rate_per_s * self.workload.mean_output_tokens


def _until_finished(fleet: Fleet, turn_s: float, requests: int) -> tuple[float, FloatArray]:
    """Lets a server run until requests have finished.

    Args:
        fleet: The server alone.
        turn_s: Time that passes at least, and between two looks, in seconds.
        requests: How many have to finish.

    Returns:
        The time that has passed, and the sums of its telemetry.
    """
    seconds, row = 0.0, np.zeros(len(fleet.telemetry[0]))
    while seconds == 0.0 or (row[COLUMN.finished] < requests and seconds < _LONGEST_S):
        row += fleet.advance(turn_s)[0]
        seconds += turn_s
    return seconds, row
