"""Controls a live server until it is told to end: ``python -m experiments.control``."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import make_env
from experiments.app.application import application
from experiments.app.composition import typed
from experiments.app.dashboard import Dashboard
from experiments.runs.interruption import Terminated, sigterm_interrupts
from experiments.runs.options import check_times
from experiments.runs.preparation import RunPreparation
from experiments.service import first_signals
from experiments.service.config import ControlConfig
from experiments.service.reloading import Asked, flat
from experiments.service.service import ControlService

_LOG = logging.getLogger(__name__)
_OF_HYDRA = ("run", "job_logging")
"""What Hydra itself is told that a service depends on: where its records and its log go."""


_STAMP = "%Y-%m-%dT%H:%M:%S"


def _print_stamped(message: str) -> None:
    """Prints an error as a line of the log; it may come before there is a log."""
    now = time.strftime(_STAMP, time.gmtime())
    sys.stderr.write(f"{now}Z ERROR {message}\n")
    sys.stderr.flush()


@application("control", ControlConfig, _print_stamped)
def main(config: ControlConfig, directory: Path) -> None:
    """Controls; SIGTERM and Ctrl-C put everything back, SIGHUP reads the settings again."""
    _stamp_log_lines()
    check_times(config.scenario, config.seed)
    if config.scenario.is_simulated:
        raise ConfigurationError("server: the service controls a live one, such as server=vllm")
    with sigterm_interrupts(), Dashboard(every_s=math.inf) as dashboard:
        first_signals.hand_over()
        try:
            _control(config, directory, dashboard)
        except Terminated:
            sets = getattr(config.scenario.server_config, "sets_knobs", True)
            restored = "everything is put back" if sets else "nothing had been set"
            _LOG.info("ended by SIGTERM; %s", restored)


def _control(config: ControlConfig, directory: Path, dashboard: Dashboard) -> None:
    """Controls until it is interrupted, and puts everything back then.

    Raises:
        Terminated: SIGTERM came, and everything is put back.
        PalsError: Something failed, or could not be put back.
    """
    scenario, options = config.scenario, config.options("")
    overrides = list(HydraConfig.get().overrides.task)
    settings = flat(config) | _hydras(overrides)
    controller = options.new_controller()
    with contextlib.ExitStack() as last_to_first:
        env = make_env(scenario)
        last_to_first.callback(env.close)
        controller.bind(env.context)
        controller.prepare(RunPreparation(scenario, options, None))
        service = ControlService(
            env, controller, config.service, directory, options.seed, dashboard, settings
        )
        last_to_first.callback(service.close)
        last_to_first.callback(env.close)  # what was found comes back first
        _LOG.info("health and metrics: http://%s:%d", config.service.host, service.status.port)
        _heed_hangups(service, overrides)
        try:
            service.run()
        except Terminated:
            _LOG.info("until SIGTERM: %s", dashboard.done)
            raise


def _heed_hangups(service: ControlService, overrides: list[str]) -> None:
    """Has SIGHUP read the settings again, also one that came while they were read."""

    def read() -> Asked:
        now = typed(ControlConfig, compose("control", overrides=overrides))
        return Asked(
            catalog.build("objective", now.objective),
            now.options("").new_controller(),
            flat(now) | _hydras(overrides),
        )

    def on_hangup(number: int, frame: FrameType | None) -> None:
        service.ask_reload(read)

    signal.signal(signal.SIGHUP, on_hangup)
    if first_signals.hung_up():
        service.ask_reload(read)


def _hydras(overrides: list[str]) -> dict[str, Any]:
    """Returns what the settings tell Hydra itself, by key."""
    node = compose("control", overrides=overrides, return_hydra_config=True).hydra
    told = {name: OmegaConf.to_container(node[name], resolve=False) for name in _OF_HYDRA}
    return flat(told, "hydra")


def _stamp_log_lines() -> None:
    """Begins every line of the log with its time (UTC) and level."""
    stamped = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", _STAMP)
    stamped.converter = time.gmtime
    for handler in logging.getLogger().handlers:
        handler.setFormatter(stamped)


if __name__ == "__main__":
    main()
