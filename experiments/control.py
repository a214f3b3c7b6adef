"""Controls a live server until it is told to end: ``python -m experiments.control``."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path
from types import FrameType

from hydra.core.hydra_config import HydraConfig

from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import make_env
from envs.objectives.objective import Objective
from experiments.app.application import application
from experiments.app.composition import composed
from experiments.runs.interruption import Terminated, sigterm_interrupts
from experiments.runs.options import check_times
from experiments.runs.preparation import RunPreparation
from experiments.service.config import ControlConfig
from experiments.service.service import ControlService

_LOG = logging.getLogger(__name__)


@application("control", ControlConfig)
def main(config: ControlConfig, directory: Path) -> None:
    """Controls; SIGTERM and Ctrl-C put everything back, SIGHUP reads the objective again."""
    _stamp_log_lines()
    scenario, options = config.scenario, config.options("")
    check_times(scenario, options.seed)
    if scenario.is_simulated:
        raise ConfigurationError("server: the service controls a live one, such as server=vllm")
    overrides = list(HydraConfig.get().overrides.task)
    controller = options.new_controller()
    with sigterm_interrupts():
        env = make_env(scenario)
        try:
            controller.bind(env.context)
            controller.prepare(RunPreparation(scenario, options, None))
            service = ControlService(
                env,
                controller,
                config.service,
                directory,
                options.seed,
            )

            def objective() -> Objective:
                read: Objective = catalog.build(
                    "objective", composed(ControlConfig, "control", *overrides).objective
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


def _stamp_log_lines() -> None:
    """Begins every line of the log with its time (UTC) and level."""
    stamped = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    stamped.converter = time.gmtime
    for handler in logging.getLogger().handlers:
        handler.setFormatter(stamped)


if __name__ == "__main__":
    main()
