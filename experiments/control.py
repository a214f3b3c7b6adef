"""Controls a live server until it is told to end: ``python -m experiments.control``."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from types import FrameType

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from baselines.base import Controller
from envs import catalog
from envs.errors import ConfigurationError
from envs.objectives.objective import Objective
from experiments.app.application import application
from experiments.app.environment import is_simulated, make_env
from experiments.app.settings import check_times
from experiments.runs.interruption import Terminated, sigterm_interrupts
from experiments.runs.preparation import RunPreparation
from experiments.service.service import ControlService

_LOG = logging.getLogger(__name__)


@application("control")
def main(config: DictConfig, directory: Path) -> None:
    """Controls; SIGTERM and Ctrl-C put everything back, SIGHUP reads the objective again."""
    check_times(config)
    if is_simulated(config):
        raise ConfigurationError("server: the service controls a live one, such as server=vllm")
    overrides = list(HydraConfig.get().overrides.task)
    controller: Controller = catalog.build("controller", config.controller)
    with sigterm_interrupts():
        env = make_env(config)
        try:
            controller.bind(env.context)
            controller.prepare(RunPreparation(config, None))
            service = ControlService(
                env,
                controller,
                catalog.build("service", config.service),
                directory,
                int(config.seed),
            )

            def objective() -> Objective:
                read: Objective = catalog.build(
                    "objective", compose("control", overrides=overrides).objective
                )
                return read

            def on_hangup(number: int, frame: FrameType | None) -> None:
                service.ask_reload(objective)

            signal.signal(signal.SIGHUP, on_hangup)
            _LOG.info("health and metrics: http://%s:%d", config.service.host, service.status.port)
            try:
                service.run()
            except Terminated:
                _LOG.info("ended by SIGTERM; everything is put back")
            finally:
                env.close()
                service.close()
        finally:
            env.close()


if __name__ == "__main__":
    main()
