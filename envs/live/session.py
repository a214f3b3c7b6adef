"""Everything that is open while a live server is controlled, opened and closed as one."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from envs.errors import ConfigurationError, DeviceError, NotRestoredError, PalsError, ServerError
from envs.knobs import Knobs
from envs.live import metrics
from envs.live.actuator import Actuator
from envs.live.batch_limit import LEASE_S
from envs.live.ceilings import knob_limits
from envs.live.config import DEFAULT_MAX_NUM_SEQS, VllmServerConfig
from envs.live.custody import Custody
from envs.live.devices.base import PowerDevice
from envs.live.errors import (
    BatchLimitError,
    DeviceLostError,
    LimitHeldError,
    ServerDiedError,
    ServerReplacedError,
)
from envs.live.host import Host
from envs.live.limit_choice import limit_control_of
from envs.live.limit_control import LimitControl
from envs.live.load_generator import LoadGenerator, Target
from envs.live.metrics import Snapshot
from envs.live.sampler import IntervalPower, PowerSampler

_LOG = logging.getLogger(__name__)
_SWITCH_INTERVAL_S = 0.0005
_DEVICE_RENEWAL_S = 1.0


class Session:
    """Server, device, custody of what was found, and the threads that act and look.

    Attributes:
        host: The server.
        device: The power device.
        limits: The range of each knob.
        max_num_seqs: Batch limit in force, as the server last told.
        facts: What is known of server and device.

    Args:
        config: What to open.

    Raises:
        PalsError: Something is not there or may not be controlled; all is put back then.
    """

    def __init__(self, config: VllmServerConfig) -> None:
        if not isinstance(config.device, PowerDevice):
            raise ConfigurationError(
                "server.device: choose one, device@server.device=nvml or throttled_cpu"
            )
        self._config = config
        self.device: PowerDevice = config.device
        self.host = Host(config)
        self._limit: LimitControl | None = None
        self._custody = Custody(self.host, self.device)
        self._sampler: PowerSampler | None = None
        self._actuator: Actuator | None = None
        self._generator: LoadGenerator | None = None
        self._effect_pending = False
        # One for each of the three below, so that none waits for another's answer.
        self._questions = ThreadPoolExecutor(3, thread_name_prefix="question")
        self._question: Future[dict[str, Any]] | None = None
        self._renewal: Future[None] | None = None
        self._renewed_s = self._device_renewed_s = time.monotonic()
        self._device_renewal: Future[None] | None = None
        self._in_control = False
        self._closed = False
        self._pid = os.getpid()
        # Requests are read by another thread; a decision shall not wait its usual 5 ms for it.
        self._switch_interval_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        try:
            self._open()
        except BaseException as error:
            close_after(error, self.close)
            raise

    def _open(self) -> None:
        config = self._config
        early = self.host.launched and not self.device.follows_process
        if early:
            self.device.open(None)  # a device that is not there is told before a server starts
        if self.host.launched:
            if config.sets_knobs:
                self._custody.lock()
            self.host.start()
            self._custody.watch_process()
        self.host.connect()
        control, told = self._limit_control()
        if config.batch_limit != "off":
            self._limit = control
        if not early:  # what is wrong with an address is told before what is with a device
            self.device.open(self.host.pid if self.device.follows_process else None)
        found = None if control is None else control.found
        self.limits = knob_limits(config, self.device, told, found)
        self.max_num_seqs = self.limits.max_num_seqs if told is None else int(told["max_num_seqs"])
        self._most_num_seqs = self.limits.max_num_seqs
        if config.sets_knobs:
            self.device.check_control()
            self._custody.lock(self._limit)
            if self._limit is not None and told is not None:
                self._limit.check(told, config.batch_limit)
        self._sampler = PowerSampler(self.device, config.sample_period_s)
        self._actuator = Actuator(self._set_cap, self.device.lock_clock, self._set_batch)
        self._generator = LoadGenerator(
            Target(
                url=self.host.url,
                model=self.host.model,
                headers=self.host.client.headers,
                token_ids=(config.first_token_id, config.last_token_id + 1),
                max_in_flight=config.max_in_flight,
                connect_timeout_s=config.stall_timeout_s,
            )
        )
        self.facts: dict[str, Any] = self.host.describe() | {
            "power_source": self.device.power_source,
            "device": self.device.keys,
            "device_facts": self.device.facts,
            "control": config.sets_knobs,
            "send_load": config.sends_load,
            "batch_limit": config.batch_limit,
            "batch_limit_route": None if self._limit is None else self._limit.route,
            "scheduler": None if told is None else told["scheduler"],
        }
        for caution in self.device.cautions(self.facts["device_facts"]):
            _LOG.warning("%s", caution)

    def _limit_control(self) -> tuple[LimitControl | None, dict[str, Any] | None]:
        """Returns the way to the server's batch limit, and what it tells; ``None`` for none.

        Raises:
            NoPluginError: There is none, and the limit is to be set.
            ServerError: The server does not answer.
        """
        config = self._config
        try:
            control = limit_control_of(self.host.client)
            told = control.read()
        except BatchLimitError as error:
            if config.sets_knobs and config.batch_limit != "off":
                raise
            _LOG.warning(
                "%s: the server does not tell its batch limit (%s); server.max_num_seqs (%d) is "
                "taken for it", self.host.url, error, config.max_num_seqs or DEFAULT_MAX_NUM_SEQS,
            )  # fmt: skip
            return None, None
        if (replicas := told.get("engines", config.data_parallel)) != config.data_parallel:
            _LOG.warning(
                "server.data_parallel: the server tells of %d engines, not %d; set "
                "server.data_parallel=%d", replicas, config.data_parallel, replicas,
            )  # fmt: skip
        return control, told

    def take_control(self) -> None:
        """Takes control of limit and device, once; until then nothing is held or noted.

        It comes as late as it may, so that whatever can be refused was refused before.

        Raises:
            PalsError: Another controller is in control, or something may not be set.
        """
        if self._in_control or not self._config.sets_knobs:
            return
        self._in_control = True  # also of what fails half-way: it is put back in closing
        if self._limit is not None:  # what was found then may be another's decision by now
            self._limit = limit_control_of(self.host.client)
        self._take_control()

    def _take_control(self) -> None:
        # The server tells of a controller that no lock tells of, before a device is touched.
        if self._limit is not None:
            self._take_limit(self._limit)
            self._renewed_s = time.monotonic()
        self._custody.take_device()

    def _take_limit(self, limit: LimitControl) -> None:
        """Takes control of the limits of whichever instance answers, and keeps beneath its own."""
        told = self._custody.take_limit(limit, self._config.batch_limit)
        raised = self._config.max_num_seqs_ceiling is not None
        own = told["ceiling_num_seqs"] if raised else limit.found
        most = self.limits.max_num_seqs if own is None else min(own, self.limits.max_num_seqs)
        if most < self._most_num_seqs:
            _LOG.warning(
                "%s: the server that answers now has a batch limit of %d; no higher one is set",
                self.host.url, most,
            )  # fmt: skip
        self._most_num_seqs = most

    @property
    def generator(self) -> LoadGenerator:
        """Sends our requests."""
        assert self._generator is not None
        return self._generator

    @property
    def actuator(self) -> Actuator:
        """Sets the knobs."""
        assert self._actuator is not None
        return self._actuator

    @property
    def guard_restarts(self) -> int:
        """How often the guard process had to be started again."""
        self._custody.keep_guarded()
        return self._custody.guard_restarts

    def power(self) -> IntervalPower:
        """Returns what the device did since the last call.

        Raises:
            ServerError: The device is the server's process, and that ended.
            DeviceError: The device failed.
        """
        assert self._sampler is not None
        try:
            return self._sampler.collect()
        except DeviceLostError as error:
            if self.device.follows_process:
                raise ServerDiedError(f"the server's worker is gone: {error}") from error
            raise

    def follow_others(self, knobs: Knobs) -> int:
        """Looks whether others changed a cap, and asks for ours again beneath it.

        Args:
            knobs: What the controller wants.

        Returns:
            How many caps were changed since the last call.
        """
        changes = self.device.take_changes_by_others()
        if changes and self._config.sets_knobs:
            self.actuator.forget()
            self.actuator.ask(knobs)
        return changes

    def effects_s(self) -> dict[str, float]:
        """Returns, once, how long a knob took from being set to being felt."""
        assert self._sampler is not None
        effects = {}
        if (cap := self._sampler.take_effect_s()) is not None:
            effects["power_cap_w"] = cap
        if self._question is not None and self._question.done():
            delay = self._question.result()["effect_delay_s"]
            self._question = None
            if delay is not None:
                self._effect_pending = False
                effects["max_num_seqs"] = float(delay)
        if self._effect_pending and self._question is None and self._limit is not None:
            # A busy engine answers between two steps; the interval does not wait for it.
            self._question = self._questions.submit(self._limit.read)
        return effects

    def renew(self) -> None:
        """Renews the lease on the batch limit in good time, without waiting for the answer.

        Raises:
            LimitHeldError: It had lapsed, and another controller is in control now.
        """
        if self._renewal is not None and self._renewal.done():
            problem, self._renewal = self._renewal.exception(), None
            if isinstance(problem, LimitHeldError):
                raise problem
        due = time.monotonic() - self._renewed_s > LEASE_S / 4
        if due and self._renewal is None and self._limit is not None and self._config.sets_knobs:
            self._renewed_s = time.monotonic()
            self._renewal = self._questions.submit(
                self._limit.renew, self.max_num_seqs, self._config.batch_limit
            )

    def renew_device(self) -> None:
        """Renews the hold on the device every second, without waiting for the answer.

        Raises:
            DeviceError: The process that sets caps for us is gone.
        """
        if self._device_renewal is not None:
            if not self._device_renewal.done():
                return
            done, self._device_renewal = self._device_renewal, None
            done.result()
        now = time.monotonic()
        if self._config.sets_knobs and now - self._device_renewed_s > _DEVICE_RENEWAL_S:
            self._device_renewed_s = now
            self._device_renewal = self._questions.submit(self.device.renew)

    def _set_cap(self, watts: float) -> None:
        self.device.set_power_cap(watts)
        if self._sampler is not None:
            self._sampler.expect(watts)

    def _set_batch(self, max_num_seqs: int) -> None:
        if self._limit is not None:
            try:
                answer = self._set_limit(self._limit, max_num_seqs)
            except ServerReplacedError:  # it was restarted; what it has now is its own
                self._take_limit(self._limit)
                answer = self._set_limit(self._limit, max_num_seqs)
            self.max_num_seqs = int(answer["max_num_seqs"])
            self._effect_pending = self._limit.tells_effect

    def _set_limit(self, limit: LimitControl, max_num_seqs: int) -> dict[str, Any]:
        allowed = min(max_num_seqs, self._most_num_seqs)
        limit.intend(allowed)
        self._custody.note_limit(limit)  # the guard knows before anything changes
        return limit.set(max_num_seqs=allowed)

    def recover(self, problem: ServerError, knobs: Knobs) -> Snapshot:
        """Gets a failed server back: ours is started again, anybody else's is waited for.

        Args:
            problem: What happened.
            knobs: What to set again.

        Returns:
            The metrics of the server that is back.

        Raises:
            PalsError: It did not come back.
        """
        assert self._sampler is not None
        _LOG.warning("recovering: %s", problem)
        self.generator.pause()
        self._sampler.pause()
        self._effect_pending, self._question = False, None
        if self.device.follows_process:
            self._custody.release_device()
            self.device.close()
        self.host.recover(problem)
        self._custody.watch_process()
        if self.device.follows_process:
            self.device.open(self.host.pid)
        if self._config.sets_knobs:
            self._take_control()
            self.actuator.forget()
            self.actuator.ask(knobs)
        self._sampler.resume()
        return metrics.fetch(self.host.client)

    def close(self) -> None:
        """Cancels our requests, puts everything back, ends what is ours.

        Raises:
            NotRestoredError: Something could not be put back; all else is done.
        """
        if self._closed or os.getpid() != self._pid:  # a forked child's end is not ours
            return
        self._closed = True
        sys.setswitchinterval(self._switch_interval_s)
        with contextlib.ExitStack() as last_to_first:  # each is done whatever the others raise
            last_to_first.callback(self.host.close)
            last_to_first.callback(self._close_device)
            last_to_first.callback(self._put_back)
            last_to_first.callback(self._questions.shutdown, cancel_futures=True)
            for part in (self._sampler, self._actuator, self._generator):
                if part is not None:
                    last_to_first.callback(part.close)

    def _put_back(self) -> None:
        if problems := self._custody.close():
            raise NotRestoredError("could not restore: " + "; ".join(problems))

    def _close_device(self) -> None:
        with contextlib.suppress(DeviceError):
            self.device.close()


def close_after(error: BaseException, close: Callable[[], None]) -> None:
    """Closes what failed; what cannot be put back is told together with what failed.

    An error of ours keeps its type, by which callers tell what happened, and gets a note; its
    caller raises it again.

    Args:
        error: What failed.
        close: Closes it.

    Raises:
        NotRestoredError: Something could not be put back after what is no error of ours.
    """
    try:
        close()
    except NotRestoredError as problem:
        if not isinstance(error, PalsError):
            raise problem from error
        error.add_note(f"and then it {problem}")
