"""Simulated servers, stepped by one compiled call, and the feeding of requests to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.compiled.jit import threads_for
from envs.errors import WorkloadError
from envs.knobs import Knobs
from envs.latency import LatencyRecord
from envs.simulator.kernel import entry
from envs.simulator.kernel import layout as at
from envs.simulator.requests import RequestBuffer
from envs.simulator.state import FloatArray, IntArray, ServerStates, Simulated, Sizes
from envs.simulator.step_layout import STEP_MODEL, StepModel
from envs.workloads.base import RequestStream

UNBORN = "call reset() first: a server has no episode yet"
_SHARED = (
    "the simulated servers are in use by another thread; give each thread an environment of its own"
)


class Fleet:
    """Simulated servers in lockstep, each with its own hardware, workload and episode.

    Args:
        server_specs: One for each server; the same object may stand in many places.
        randomize: Draws each server's calibration again for every episode.
        latency: Whether :meth:`latency` can be asked for; counting costs time.
        chunk: Requests taken from a stream at a time.

    Attributes:
        num_envs: Number of servers.
        telemetry: Telemetry of the last interval, shape ``(num_envs, NUM_TELEMETRY)``.
        power_fractions: Fraction of each GPU in its server's power, shape
            ``(num_envs, most GPUs)``.
    """

    def __init__(
        self,
        server_specs: Sequence[Simulated],
        *,
        randomize: bool = False,
        latency: bool = True,
        chunk: int = 1024,
    ) -> None:
        self.server_specs = list(server_specs)
        self.num_envs = count = len(self.server_specs)
        self._randomize = randomize
        self._latency = latency
        self._chunk = chunk
        self._specs = [server_spec.spec for server_spec in self.server_specs]
        self._states = ServerStates(count, Sizes.of(self._specs), latency=latency)
        placed: dict[int, NDArray[Any]] = {}
        self._models = [_placed(spec.step_model, placed) for spec in self._specs]
        self._requests = [RequestBuffer(chunk) for _ in self._specs]
        self._status = np.full(count, at.DONE, dtype=np.int64)
        self._all = np.arange(count)
        self._unborn = set(range(count))
        self.power_fractions = np.zeros((count, max(spec.num_gpus for spec in self._specs)))
        self._locate()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the views of the state."""
        views = ("_servers", "_until_s", "telemetry", "_first", "_in_use")
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Points the copy's state to the copy's own arrays."""
        self.__dict__.update(state)
        self._locate()
        for index, requests in enumerate(self._requests):
            requests.locate(self._servers[index])

    def _locate(self) -> None:
        self._in_use = Lock()
        self._servers = self._states.servers
        self._until_s = self._servers["until_s"]
        for index in range(self.num_envs):
            self._share(index)
        self.telemetry = self._states.telemetry
        self._first = int(self._states.addresses[0])

    def _share(self, index: int) -> None:
        """Notes where what server ``index`` shares with others lies."""
        server = self._servers[index]
        server.model_at = self._models[index].ctypes.data
        server.text_ids_at = self._specs[index].texts.ids.ctypes.data

    def reset(self, index: int, seed: int) -> None:
        """Starts an episode of server ``index``; every draw of it follows from ``seed``."""
        server_spec = self.server_specs[index]
        arrivals, physics, devices = np.random.default_rng(seed).spawn(3)
        spread = server_spec.coefficients.device_spread
        if self._randomize:
            drawn = server_spec.randomized(physics)
            spread = drawn.device_spread
            self._models[index] = _placed(drawn.step_model, {})
            self._specs[index] = replace(
                server_spec.spec,
                step_model=drawn.step_model,
                power_times=drawn.power_times,
                system_power=drawn.system_power,
            )
        factors = 1.0 + spread * devices.standard_normal(server_spec.num_gpus)
        factors = np.maximum(factors, 0.5)
        self.power_fractions[index, : server_spec.num_gpus] = factors / factors.sum()
        workload = server_spec.workload
        stream = workload.stream(arrivals, server_spec.rate_per_s)
        self.begin(index, stream, workload.concurrency)

    def begin(self, index: int, stream: RequestStream, concurrency: int | None) -> None:
        """Empties server ``index`` and gives it a stream of requests.

        Args:
            index: Which server.
            stream: Its requests.
            concurrency: Requests a closed loop keeps in flight; ``None`` for open arrivals.
        """
        server = self._servers[index]
        self._enter()
        try:
            self._share(index)
            self._states.begin(index, self._specs[index], concurrency)
            self._requests[index].restart(stream)
            self._requests[index].feed(server)
        finally:
            self._in_use.release()
        self._unborn.discard(index)

    def apply(self, knobs: Knobs) -> None:
        """Asks for knobs, one number for all servers or shape ``(num_envs,)`` each.

        Each server clips them to its limits when time passes.
        """
        clock_mhz = knobs.sm_clock_mhz
        requested = self._states.requested
        requested[:, 0] = knobs.power_cap_w
        requested[:, 1] = knobs.max_num_seqs
        requested[:, 2] = math.inf if clock_mhz is None else clock_mhz

    def set_slos(self, ttft_slo_s: FloatArray | float, tpot_slo_s: FloatArray | float) -> None:
        """Sets the latency SLOs that requests are evaluated by from now on (seconds)."""
        self._servers.ttft_slo_s = ttft_slo_s
        self._servers.tpot_slo_s = tpot_slo_s

    def set_warmup(self, seconds: FloatArray | float) -> None:
        """Leaves requests that arrive before ``seconds`` out of :meth:`latency`."""
        self._servers.warmup_s = seconds

    def advance(self, seconds: float, which: IntArray | None = None) -> FloatArray:
        """Lets time pass on all servers, or on those of some indices.

        Returns:
            :attr:`telemetry`, valid until the next call.

        Raises:
            WorkloadError: A server was never reset, or another thread is at it.
        """
        if self.num_envs > 1 or which is not None:
            servers = self._states.addresses

            def run(pending: IntArray, status: IntArray) -> None:
                entry.advance_many(pending, servers, status)

            pending = self._all if which is None else which
            self.drive(pending, seconds, run)
            return self.telemetry
        self.refuse_unborn()
        if not self._in_use.acquire(False):
            raise WorkloadError(_SHARED)
        try:
            self._until_s[0] += seconds
            while entry.advance_one(self._first) == at.NEEDS_REQUESTS:
                self._requests[0].feed(self._servers[0])
        finally:
            self._in_use.release()
        return self.telemetry

    def refuse_unborn(self) -> None:
        """Refuses servers that have no episode yet.

        Raises:
            WorkloadError: There is one.
        """
        if self._unborn:
            raise WorkloadError(UNBORN)

    def _enter(self) -> None:
        """Keeps other threads out, which compiled code would let into the same memory."""
        if not self._in_use.acquire(blocking=False):
            raise WorkloadError(_SHARED)

    def drive(
        self, which: IntArray, seconds: float, run: Callable[[IntArray, IntArray], None]
    ) -> None:
        """Lets compiled code run servers to the end of an interval, feeding it requests.

        It runs on as many threads as servers that many are worth.

        Args:
            which: Indices of the servers.
            seconds: Length of the interval.
            run: Called with indices and an array over all servers; for each index it notes
                there ``DONE``, or ``NEEDS_REQUESTS`` when it is to be called again.

        Raises:
            WorkloadError: A server was never reset, or another thread is at it.
        """
        self.refuse_unborn()
        self._enter()
        try:
            self._drive(which, seconds, run)
        finally:
            self._in_use.release()

    def _drive(
        self, which: IntArray, seconds: float, run: Callable[[IntArray, IntArray], None]
    ) -> None:
        if len(which) == self.num_envs:
            self._until_s[:] += seconds
        else:
            self._until_s[which] += seconds
        status = self._status
        with threads_for(len(which)):
            while len(which):
                run(which, status)
                if not status.any():
                    return
                which = np.flatnonzero(status)
                status[:] = at.DONE
                for index in which.tolist():
                    self._requests[index].feed(self._servers[index])

    def latency(self, index: int) -> LatencyRecord:
        """Returns the latencies of server ``index`` since its warm-up.

        Raises:
            ValueError: The fleet was told not to count them.
        """
        if not self._latency:
            raise ValueError("latencies are not counted; make the fleet with latency=True")
        totals, server = self._states.totals[index].copy(), self._servers[index]
        overdue = entry.unfinished(int(self._states.addresses[index]), totals[at.TTFT])
        return LatencyRecord(
            ttft=totals[at.TTFT],
            tpot=totals[at.TPOT],
            e2e=totals[at.E2E],
            finished=int(server.total_finished),
            slo_missed=int(server.total_slo_missed),
            slo_overdue=overdue,
        )

    def own_model(self, which: Sequence[int]) -> NDArray[Any]:
        """Gives some servers a step model that they share with no others.

        Args:
            which: Their indices; all of them have the same model now.

        Returns:
            The model, shape ``(1,)``: what is written there holds for them from now on.
        """
        model = self._models[which[0]].copy()
        for index in which:
            self.use_model(index, model)
        return model

    def use_model(self, index: int, model: NDArray[Any]) -> None:
        """Lets a server use a step model in memory of the caller's, shape ``(1,)``."""
        self._models[index] = model
        self._servers[index].model_at = model.ctypes.data

    def model_of(self, index: int) -> NDArray[Any]:
        """Returns the step model of a server, which others may use as well."""
        return self._models[index]

    @property
    def randomizes(self) -> bool:
        """Whether the calibrations are drawn again for every episode."""
        return self._randomize

    @property
    def states(self) -> ServerStates:
        """The servers' state, for what copies it."""
        return self._states

    @property
    def servers(self) -> Any:
        """The servers' records, shape ``(num_envs,)``."""
        return self._servers

    @property
    def requests(self) -> list[RequestBuffer]:
        """The requests that wait for or are yet to come to each server."""
        return self._requests

    @property
    def addresses(self) -> IntArray:
        """Address of each server's row, for :mod:`envs.simulator.kernel`."""
        return self._states.addresses

    @property
    def engine_steps(self) -> int:
        """Engine steps taken since reset, over all servers."""
        return int(self._servers.steps.sum())


def _placed(model: StepModel, placed: dict[int, NDArray[Any]]) -> NDArray[Any]:
    """Returns a step model in memory that stays where it is, shape ``(1,)``.

    Servers of one model share it, and with it the processor's cache.

    Args:
        model: The model.
        placed: The models that have been placed.
    """
    if id(model) not in placed:
        placed[id(model)] = np.array([model], dtype=STEP_MODEL)
    return placed[id(model)]
