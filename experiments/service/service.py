"""The service's loop: decides, records, reports; ends by SIGTERM, reloads targets by SIGHUP."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.base import Adjustable, Controller
from envs.cache import atomic_write_text
from envs.knobs import Knobs
from envs.masking import Masking
from envs.objectives.objective import Objective
from envs.serving import ServingEnv
from envs.telemetry import MODELLED
from experiments.app.errors import describe
from experiments.records.interval_table import Row, interval_row
from experiments.runs.interruption import FAILURES, heed_lost_sigterm
from experiments.runs.watching import Watcher
from experiments.service.config import ServiceConfig
from experiments.service.daily_records import DailyRecords
from experiments.service.exposition import Exposition
from experiments.service.reloading import Asked, Changes, adjustable, changes
from experiments.service.status_server import StatusServer

_LOG = logging.getLogger(__name__)


class ControlService:
    """A controller at a server, for as long as it is let.

    Memory does not grow with time: rows go to disk, metrics are sums, and an hour of intervals
    is kept for means.

    Attributes:
        exposition: What it tells as metrics.
        status: Serves health and metrics.

    Args:
        env: The environment; the caller closes it.
        controller: A controller that is bound and prepared.
        config: How the service is looked at.
        folder: Where records go.
        seed: Seed of the environment.
        watcher: Is told every interval.
        settings: All settings in force, as :func:`~experiments.service.reloading.flat` returns
            them.
    """

    def __init__(
        self,
        env: ServingEnv,
        controller: Controller,
        config: ServiceConfig,
        folder: Path,
        seed: int = 0,
        watcher: Watcher | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._env = env
        self._controller = controller
        self._config = config
        self._seed = seed
        self._watcher = watcher
        self._settings = dict(settings or {})
        known = dict(env.system.facts)
        facts = Masking(known)(known)
        self._sets_knobs = bool(facts.get("control", True))
        if watcher is not None:
            watcher.begins(env.context)
        self._records = DailyRecords(folder)
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(folder / "server.json", json.dumps(facts, indent=1), private=True)
        self._told_s = time.monotonic()
        self._reload: Callable[[], Asked] | None = None
        self._disk_is_full = False
        self.exposition = Exposition(env.interval_s)
        self.status = StatusServer(config.host, config.port, self.problem, self.exposition.text)

    def problem(self) -> str | None:
        """Returns what is wrong with the service; ``None`` if it decides in time."""
        silent_s = time.monotonic() - self._told_s
        if silent_s > self._config.stale_intervals * self._env.interval_s:
            return f"no decision for {silent_s:.1f} s"
        return None

    def ask_reload(self, read: Callable[[], Asked]) -> None:
        """Has the settings read again before the next interval; safe in a signal handler."""
        self._reload = read

    def run(self, intervals: int | None = None) -> None:
        """Controls the server.

        Args:
            intervals: How many intervals; ``None`` for ever.

        Raises:
            PalsError: Server or device failed; by then everything is put back.
            Terminated: SIGTERM came.
        """
        observation, info = self._env.reset(seed=self._seed)
        before: Knobs = info["telemetry"].requested  # as found, or as far as it may be raised
        state, start, done = None, np.array([True]), 0
        self._told_s = time.monotonic()
        while intervals is None or done < intervals:
            heed_lost_sigterm()
            observation = self._reloaded(observation, state)
            action, state = self._controller.predict(observation, state, start, deterministic=True)
            observation, reward, _, _, info = self._env.step(action)
            start = np.array([False])
            row = interval_row(float(reward), info)
            row |= {name: float(value) for name, value in self._env.system.extras.items()}
            knobs: Knobs = info["knobs"]
            changed = knobs != before
            if changed or done == 0:
                said = "knobs" if self._sets_knobs else "knobs (decided, not set)"
                _LOG.info("%s: %s", said, _said(knobs))
            before = knobs
            self._keep(row)
            if self._watcher is not None:
                self._watcher.interval(row)
            modelled = info["telemetry"].power_source == MODELLED
            told: Row = {"power_modelled": modelled, "sets_knobs": self._sets_knobs}
            self.exposition.interval(row | told, changed and self._sets_knobs)
            self._told_s = time.monotonic()
            done += 1

    def _reloaded(self, observation: NDArray[np.float32], state: Any) -> NDArray[np.float32]:
        """Takes new settings if they were asked for; wrong ones change nothing."""
        if self._reload is None:
            return observation
        read, self._reload = self._reload, None
        try:
            asked = read()
            found = changes(self._settings, asked.settings, adjustable(self._controller))
            if found.objective:
                observation = self._env.replace_objective(self._with_what_was_bound(asked))
            if found.controller and isinstance(self._controller, Adjustable):
                self._controller.adjust(asked.controller, state)
        except FAILURES as error:  # whatever a file holds, control goes on
            _LOG.error("the settings were not taken: %s", describe(error))
            self.exposition.reloaded("refused")
        else:
            self._tell(found, asked.settings)
        return observation

    def _with_what_was_bound(self, asked: Asked) -> Objective:
        """Returns the objective asked for, with what a restart alone changes as it was."""
        objective = self._env.objective
        return replace(asked.objective, qos=objective.qos, power_scope=objective.power_scope)

    def _tell(self, found: Changes, asked: Mapping[str, Any]) -> None:
        """Tells what became of every setting that was changed."""
        for key in found.objective + found.controller:
            _LOG.info("%s is %s now", key, asked.get(key, "not set"))
            if key in asked:
                self._settings[key] = asked[key]
            else:
                del self._settings[key]
        if found.objective:
            _LOG.info("targets and budgets begin at their own beginning")
        for key in found.restart:
            _LOG.warning("%s was changed; that needs a restart of the service", key)
        if not any(found):
            _LOG.info("the settings were read again: none was changed")
        self.exposition.reloaded("needs_restart" if found.restart else "done")

    def _keep(self, row: dict[str, float | None]) -> None:
        """Records a row; a disk that is full ends the record, not the control."""
        try:
            self._records.append(row)
        except OSError as error:
            if not self._disk_is_full:
                _LOG.error("an interval could not be recorded: %s", error)
            self._disk_is_full = True
        else:
            if self._disk_is_full:
                _LOG.warning("intervals are recorded again")
            self._disk_is_full = False

    def close(self) -> None:
        """Stops serving; the caller closes the environment."""
        self.status.close()
        self._records.close()


def _said(knobs: Knobs) -> str:
    clock = "free" if knobs.sm_clock_mhz is None else f"{knobs.sm_clock_mhz:g} MHz"
    return f"cap {knobs.power_cap_w:g} W, batch limit {knobs.max_num_seqs}, clock {clock}"
