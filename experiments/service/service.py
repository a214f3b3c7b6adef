"""The service's loop: decides, records, reports; ends by SIGTERM, reloads targets by SIGHUP."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from baselines.base import Controller
from envs.errors import PalsError
from envs.knobs import Knobs
from envs.objectives.objective import Objective
from envs.serving import ServingEnv
from experiments.records.interval_table import interval_row
from experiments.service.config import ServiceConfig
from experiments.service.daily_records import DailyRecords
from experiments.service.exposition import Exposition
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
    """

    def __init__(
        self,
        env: ServingEnv,
        controller: Controller,
        config: ServiceConfig,
        folder: Path,
        seed: int = 0,
    ) -> None:
        self._env = env
        self._controller = controller
        self._config = config
        self._seed = seed
        self._records = DailyRecords(folder)
        self._told_s = time.monotonic()
        self._reload: Callable[[], Objective] | None = None
        self._disk_is_full = False
        self.exposition = Exposition(env.interval_s)
        self.status = StatusServer(config.host, config.port, self.problem, self.exposition.text)

    def problem(self) -> str | None:
        """Returns what is wrong with the service; ``None`` if it decides in time."""
        silent_s = time.monotonic() - self._told_s
        if silent_s > self._config.stale_intervals * self._env.interval_s:
            return f"no decision for {silent_s:.1f} s"
        return None

    def ask_reload(self, objective: Callable[[], Objective]) -> None:
        """Has the objective read again before the next interval; safe in a signal handler."""
        self._reload = objective

    def run(self, intervals: int | None = None) -> None:
        """Controls the server.

        Args:
            intervals: How many intervals; ``None`` for ever.

        Raises:
            PalsError: Server or device failed; by then everything is put back.
        """
        observation, _ = self._env.reset(seed=self._seed)
        state, start, before, done = None, np.array([True]), None, 0
        self._told_s = time.monotonic()
        while intervals is None or done < intervals:
            observation = self._reloaded(observation)
            action, state = self._controller.predict(observation, state, start, deterministic=True)
            observation, reward, _, _, info = self._env.step(action)
            start = np.array([False])
            row = interval_row(float(reward), info)
            row |= {name: float(value) for name, value in self._env.system.extras.items()}
            knobs: Knobs = info["knobs"]
            changed = before is not None and knobs != before
            if before is None or changed:
                _LOG.info("knobs: %s", _said(knobs))
            before = knobs
            self._keep(row)
            self.exposition.interval(row, changed)
            self._told_s = time.monotonic()
            done += 1

    def _reloaded(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes a new objective if one was asked for; a wrong one changes nothing."""
        if self._reload is None:
            return observation
        read, self._reload = self._reload, None
        try:
            observation = self._env.replace_objective(read())
        except PalsError as error:
            _LOG.error("the settings were not taken: %s", error)
            self.exposition.reloaded("refused")
        else:
            _LOG.info("the settings were read again: targets, budgets and SLOs are the new ones")
            self.exposition.reloaded("done")
        return observation

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
