"""The live serving system: a real vLLM server behind the simulator's contract."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import time
from typing import Any

import numpy as np
from typing_extensions import override

from envs.errors import ConfigurationError, NotRestoredError, PalsError, ServerError
from envs.knobs import Knobs
from envs.latency import LatencyRecord
from envs.live.accounting import Accounts, IntervalAccount
from envs.live.baseline_rating import configured, rating
from envs.live.clock import ElasticClock
from envs.live.config import VllmServerConfig
from envs.live.errors import ActuationError, ClientBehindError, ServerHangsError
from envs.live.health import Health
from envs.live.metrics import Snapshot
from envs.live.onlooker import Onlooker
from envs.live.session import Session, close_after
from envs.live.telemetry_fields import client_fields, power_fields, server_fields
from envs.live.watching import learnt_capacity, watched
from envs.system import ServingSystem
from envs.telemetry import Telemetry
from envs.workloads.base import Workload
from envs.workloads.external import External

_LOG = logging.getLogger(__name__)
_ACTUATION_TIMEOUT_S = 30.0
MAX_EVENTS = 1000
"""Recoveries that are remembered, each with its message."""


class LiveServer(ServingSystem):
    """A real vLLM server; implements :class:`envs.system.ServingSystem`.

    Attributes:
        extras: Facts of the last interval that a simulator has none of, as plain numbers:
            ``interval_overrun_s`` (how much later than planned the interval ended),
            ``decision_s`` (from an observation to the knobs that followed),
            ``<knob>_actuation_s`` (from asking for a knob to its being set),
            ``<knob>_effect_s`` (from its being set to its being felt), ``client_lag_s``,
            ``client_output_tokens``, ``requests_lost``, ``clock_resynchronised``,
            ``counters_reset``, ``metrics_failures``, ``recoveries``, ``downtime_s``,
            ``guard_restarts``, ``power_stalled`` and ``cap_changes_by_others``. Times of what did
            not happen are left out.
        facts: What is known of server and device, for the record of a run.
        events: Failures that were recovered from: ``time_s``, ``error``, ``message``,
            ``downtime_s``.

    Args:
        config: The server, its device, and what to do when something fails.
        workload: Requests to send; :class:`~envs.workloads.external.External` sends none.

    Raises:
        PalsError: The server or its device is not there, or may not be controlled. Then
            everything is as it was.
    """

    def __init__(self, config: VllmServerConfig, workload: Workload) -> None:
        self.config = config
        _LOG.info("%s", config.intent)
        self.workload = workload if config.sends_load else watched(workload)
        self.extras: dict[str, float] = {}
        self.events: list[dict[str, Any]] = []
        self._recovered = 0
        self._failing_since_s: float | None = None
        self._check_capacity(configured(config)[0])  # before a server is asked, or even started
        self._session = Session(config)
        atexit.register(self._close_at_exit)
        try:
            self._prepare()
        except BaseException as error:
            close_after(error, self.close)
            raise

    def _prepare(self) -> None:
        config, session = self.config, self._session
        self.facts = session.facts
        self.knob_limits = session.limits
        self.num_gpus = session.device.num_gpus
        self.system_power = (config.system_alpha, config.system_beta_w)
        self._health = Health(config, session.host)
        self.capacity_tok_s, self.rated_power_w = rating(config, session.limits, self.num_gpus)
        if math.isnan(self.capacity_tok_s) and not config.sets_knobs and not config.sends_load:
            self.capacity_tok_s = learnt_capacity(
                config, session.max_num_seqs, self._health.read_metrics
            )
        self._rate_per_s = self._arrival_rate()
        self.offered_tok_s = self.capacity_tok_s
        if self.workload.concurrency is None:
            self.offered_tok_s = self._rate_per_s * self.workload.mean_output_tokens
        self._accounts = Accounts()
        self._onlooker = Onlooker()
        self._clock = ElasticClock()
        self._snapshot = self._health.read_metrics()
        self.kv_cache_tokens = self._snapshot.kv_cache_tokens
        self._requested = self.knob_limits.highest
        self._start_s = self._last_s = self._returned_s = time.monotonic()
        self._decision_s: float | None = None

    def _check_capacity(self, capacity_tok_s: float) -> None:
        """Raises an error if the rate of our requests depends on what nobody knows.

        Raises:
            ConfigurationError: It does, and the capacity is not going to be learnt by watching.
        """
        learnt = not self.config.sets_knobs and not self.config.sends_load
        needed = self.workload.concurrency is None and self.workload.needs_capacity
        if needed and math.isnan(capacity_tok_s) and not learnt:
            raise ConfigurationError(
                "server.capacity_tok_s: workload.load is a fraction of it, and it is not known. "
                "Profile the server with python -m experiments.profile server=... and name the "
                "result with profile.path=..., or set server.capacity_tok_s or workload.rate"
            )

    def _arrival_rate(self) -> float:
        """Returns the mean rate of our requests; of a closed loop, any: it is ignored."""
        if self.workload.concurrency is not None:
            return 1.0
        return self.workload.rate_per_s(self.capacity_tok_s / self.workload.mean_output_tokens)

    @property
    def _sends(self) -> bool:
        return not isinstance(self.workload, External)

    @override
    def reset(self, seed: int) -> Telemetry:
        """Starts an episode; cancels own requests only.

        Raises:
            PalsError: Server or device failed; by then everything is put back.
        """
        try:
            return self._reset(seed)
        except PalsError as error:
            close_after(error, self.close)
            raise

    def _reset(self, seed: int) -> Telemetry:
        session = self._session
        session.generator.pause()
        self._requested = self.knob_limits.highest
        if self.config.sets_knobs:
            session.take_control()
            session.actuator.ask(self._requested)
            if not session.actuator.wait(_ACTUATION_TIMEOUT_S):
                raise ActuationError("reset: the highest knobs could not be set in time")
            session.actuator.take_latency_s()
        self._drain()
        self._accounts.clear()
        self._onlooker = Onlooker(self._accounts.warmup_s)
        self._health.restart()
        self.extras = {}
        arrivals, prompts, _ = np.random.default_rng(seed).spawn(3)
        if self._sends:
            stream = self.workload.stream(arrivals, self._rate_per_s)
            session.generator.begin(stream, prompts, self.workload.concurrency)
        self._snapshot = self._health.read_metrics()
        power = session.power()
        self._clock.restart()
        self._start_s = self._last_s = self._returned_s = time.monotonic()
        fields = server_fields(self._snapshot, self._snapshot.since(self._snapshot))
        fields |= power_fields(power, 0.0, self.system_power)
        fields |= {"energy_gpu_j": 0.0, "energy_system_j": 0.0}
        return self._as_telemetry(0.0, 0.0, fields)

    def _drain(self) -> None:
        """Waits until a server of ours is empty."""
        deadline = time.monotonic() + self.config.drain_timeout_s
        while self._session.host.launched:
            gauges = self._health.read_metrics().gauges
            if gauges["running"] + gauges["waiting"] == 0:
                return
            if time.monotonic() > deadline:
                raise ServerHangsError(
                    f"{self._session.host.url}: cancelled requests still run after "
                    f"{self.config.drain_timeout_s:g} s (server.drain_timeout_s)"
                )
            time.sleep(0.05)

    @override
    def apply(self, knobs: Knobs) -> None:
        """Hands the knobs to a thread that sets them, and returns at once."""
        self._decision_s = time.monotonic() - self._returned_s
        self._requested = self.knob_limits.clip(knobs)
        if self.config.batch_limit == "off":  # what is not set must not be recorded as set
            self._requested = self._requested._replace(max_num_seqs=self._session.max_num_seqs)
        if not self.config.sets_knobs:
            _LOG.debug("would set %s", self._requested)
        else:
            self._session.actuator.ask(self._requested)

    @override
    def set_slos(self, ttft_slo_s: float, tpot_slo_s: float) -> None:
        self._accounts.ttft_slo_s = ttft_slo_s
        self._accounts.tpot_slo_s = tpot_slo_s

    @override
    def set_warmup(self, seconds: float) -> None:
        self._accounts.warmup_s = self._onlooker.warmup_s = seconds

    @override
    def latency(self) -> LatencyRecord:
        """Returns the latencies of own requests; if none are sent, those in the histograms."""
        if not self._sends:
            return self._onlooker.latency()
        return self._accounts.latency(self._session.generator.now_s)

    @override
    def advance(self, seconds: float) -> Telemetry:
        """Sleeps until the interval's end and returns its telemetry.

        Raises:
            PalsError: Server or device failed; by then everything is put back.
        """
        self.extras = {} if self._decision_s is None else {"decision_s": self._decision_s}
        self._decision_s = None
        try:
            telemetry = self._advance(seconds)
        except BaseException as error:
            close_after(error, self.close)
            raise
        self._returned_s = time.monotonic()
        return telemetry

    def _advance(self, seconds: float) -> Telemetry:
        session = self._session
        deadline = self._clock.next_deadline(seconds)
        account = IntervalAccount()
        downtime_s, events = 0.0, self._recovered
        try:
            self._clock.sleep_until(deadline, session.host.check)
            snapshot = self._health.read_metrics()
            account = self._accounts.take(session.generator.take())
            added = snapshot.since(self._snapshot)
            if reset := snapshot.restarted_since(self._snapshot):
                session.generator.forgive()
            self._examine(snapshot, added, account)
            power, now = session.power(), time.monotonic()
            latency_s, effects_s = session.actuator.take_latency_s(), session.effects_s()
            self._failing_since_s = None
        except ServerError as error:
            if self.config.on_failure == "fail" or self._fails_for_good():
                raise
            snapshot, downtime_s = self._recover(error)
            account = account.plus(self._accounts.take(session.generator.take()))
            added = _from_client(account)
            power, now = session.power(), time.monotonic()
            latency_s, effects_s, reset = {}, {}, False
        if reset and self.config.sets_knobs:  # it was restarted: it forgot our limit
            session.actuator.forget()
            session.actuator.ask(self._requested)
        duration_s = now - self._last_s
        self._last_s, self._snapshot = now, snapshot
        fields = server_fields(snapshot, added)
        fields |= power_fields(power, duration_s, self.system_power)
        fields |= self._request_fields(snapshot, added, account, now - self._start_s)
        self.extras |= {
            "interval_overrun_s": max(0.0, now - deadline),
            "clock_resynchronised": float(self._clock.resynchronised),
            "client_output_tokens": float(account.output_tokens),
            "requests_lost": float(account.lost),
            "counters_reset": float(reset),
            "metrics_failures": float(self._health.take_metrics_failures()),
            "recoveries": float(self._recovered - events),
            "downtime_s": downtime_s,
            "guard_restarts": float(session.guard_restarts),
            "power_stalled": float(power.stalled),
            "cap_changes_by_others": float(session.follow_others(self._requested)),
        }
        session.renew()
        session.renew_device()
        self.extras |= {f"{name}_actuation_s": value for name, value in latency_s.items()}
        self.extras |= {f"{name}_effect_s": value for name, value in effects_s.items()}
        return self._as_telemetry(now - self._start_s, duration_s, fields)

    def _examine(self, snapshot: Snapshot, added: Snapshot, account: IntervalAccount) -> None:
        """Raises the error that the interval's observations amount to, if they do."""
        generator = self._session.generator
        self.extras["client_lag_s"] = lag_s = generator.take_lag_s()
        self._health.check_requests(generator.take_failures(), account.output_tokens > 0)
        inside = snapshot.gauges["running"] + snapshot.gauges["waiting"]
        moved = added.counters["output_tokens"] + added.counters.get("prompt_tokens", 0.0)
        busy = inside > 0 or self._accounts.in_flight > 0
        self._health.check_progress(busy, moved > 0 or account.output_tokens > 0)
        if lag_s > self.config.max_client_lag_s:
            problem = ClientBehindError(
                f"our own requests were sent up to {lag_s:.2f} s late "
                "(server.max_client_lag_s): this machine cannot keep the load up; lower "
                "workload.load, or send from a machine with idle cores"
            )
            if self.config.on_failure == "fail":
                raise problem
            generator.postpone(lag_s)
            self._note(problem, 0.0)

    def _fails_for_good(self) -> bool:
        """Whether one recovery followed the other for too long, with no good interval between."""
        now = time.monotonic()
        if self._failing_since_s is None:
            self._failing_since_s = now
        return now - self._failing_since_s > self.config.recovery_timeout_s

    def _recover(self, problem: ServerError) -> tuple[Snapshot, float]:
        """Returns the metrics after the recovery, and how long it took."""
        began = time.monotonic()
        snapshot = self._session.recover(problem, self._requested)
        downtime_s = time.monotonic() - began
        self._session.generator.forgive()
        self._session.generator.postpone(downtime_s)
        self._session.generator.resume()
        self._health.restart()
        self._note(problem, downtime_s)
        _LOG.warning("recovered after %.1f s", downtime_s)
        return snapshot, downtime_s

    def _note(self, problem: ServerError, downtime_s: float) -> None:
        """Records a recovery; of a service that runs for months the newest are kept."""
        self._recovered += 1
        del self.events[: -MAX_EVENTS + 1]
        self.events.append(
            {
                "time_s": time.monotonic() - self._start_s,
                "error": type(problem).__name__,
                "message": str(problem),
                "downtime_s": downtime_s,
            }
        )

    def _request_fields(
        self, snapshot: Snapshot, added: Snapshot, account: IntervalAccount, time_s: float
    ) -> dict[str, Any]:
        if self._sends:
            return client_fields(account, self._accounts, self._session.generator.now_s)
        slos = (self._accounts.ttft_slo_s, self._accounts.tpot_slo_s)
        return self._onlooker.fields(snapshot, added, time_s, slos)

    def _as_telemetry(self, time_s: float, duration_s: float, fields: dict[str, Any]) -> Telemetry:
        return Telemetry(
            time_s=time_s,
            duration_s=duration_s,
            max_num_seqs=float(self._session.max_num_seqs),
            requested=self._requested,
            power_source=self._session.device.power_source,
            **fields,
        )

    @override
    def close(self) -> None:
        """Restores the knobs and ends what was started; further calls do nothing.

        Raises:
            NotRestoredError: Something could not be put back; all else is done.
        """
        atexit.unregister(self._close_at_exit)
        self._session.close()

    def _close_at_exit(self) -> None:
        with contextlib.suppress(NotRestoredError):  # it was logged
            self.close()


def _from_client(account: IntervalAccount) -> Snapshot:
    """Returns what our own requests know of an interval in which the counters were lost."""
    return Snapshot(
        counters={
            "output_tokens": float(account.output_tokens),
            "prompt_tokens": float(account.prompt_tokens),
            "finished": float(account.finished),
        }
    )
