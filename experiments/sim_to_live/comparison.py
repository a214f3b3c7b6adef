"""The same controllers on a live server and on the simulator calibrated for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from baselines.base import Controller
from baselines.profile import Profile
from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import make_env, simulated_env
from envs.live.config import VllmServerConfig
from envs.serving import ServingEnv
from envs.workloads.base import Workload
from experiments.app.settings import RunConfig
from experiments.evaluation.metric_table import Metric, metrics_of
from experiments.evaluation.metrics import RunMetrics, summarise
from experiments.evaluation.rollout import run_episode
from experiments.profiling.store import find_profile
from experiments.runs.preparation import RunPreparation
from experiments.sim_to_live.counterpart import counterpart
from experiments.sim_to_live.device_fit import DeviceFit

COMPARED = metrics_of(
    "throughput_tok_s", "power_mean_w", "tokens_per_joule", "tpot_p50_s", "ttft_p50_s",
    "qos_violation_rate_backlog",
)  # fmt: skip
"""What is compared; the violation rate is by the definition that a live server allows."""

RESOLUTION = 0.01
"""Relative difference below which two controllers count as equal: what noise does to live runs."""
OnRun = Callable[[str, int, int], None]


@dataclass(kw_only=True)
class TransferConfig(RunConfig):
    """What a comparison of simulator and live server is made of (``conf/transfer.yaml``).

    Attributes:
        controllers: Names of the controllers to run on both.
        model_path: ``config.json``, or a folder with one, of the model that the server serves;
            ``None`` takes that of ``server.launch.model`` if it is a folder, else ``model``.
        page: Markdown file whose block ``transfer`` is replaced; ``none`` for no file.
    """

    model_path: str | None = None

    controllers: list[str] = field(
        default_factory=lambda: ["static", "governor", "adaptive_batch", "pals"]
    )
    page: str = "none"


@dataclass(frozen=True)
class Transfer:
    """Metrics of every controller on both sides.

    Attributes:
        fit: The calibration and its errors.
        live: Metrics by controller, on the live server.
        simulated: The same on the simulator.
        power_source: Whether the live server's power was measured or modelled.
    """

    fit: DeviceFit
    live: dict[str, RunMetrics]
    simulated: dict[str, RunMetrics]
    power_source: str

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row per controller and metric: both values and the gap."""
        rows = []
        for name in self.live:
            live, simulated = self.live[name].to_dict(), self.simulated[name].to_dict()
            for metric in COMPARED:
                values = live[metric.key], simulated[metric.key]
                rows.append(
                    {
                        "controller": name,
                        "metric": metric.key,
                        "live": values[0],
                        "simulated": values[1],
                        "gap": gap(*values, metric),
                    }
                )
        return rows

    def rankings(self) -> tuple[list[list[str]], list[list[str]]]:
        """Returns the controllers by tokens per joule, live and simulated.

        Best first, in groups that are apart by more than :data:`RESOLUTION`.
        """
        return _ranked(self.live), _ranked(self.simulated)

    @property
    def same_ranking(self) -> bool:
        """Whether both sides have the same groups in the same order."""
        live, simulated = self.rankings()
        return [set(group) for group in live] == [set(group) for group in simulated]


def _ranked(side: dict[str, RunMetrics]) -> list[list[str]]:
    values = {name: metrics.tokens_per_joule or 0.0 for name, metrics in side.items()}
    groups: list[list[str]] = []
    for name in sorted(values, key=lambda item: -values[item]):
        if groups and values[name] >= values[groups[-1][0]] * (1.0 - RESOLUTION):
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


def gap(live: float | None, simulated: float | None, metric: Metric) -> float | None:
    """Returns the simulator's error: relative, but the plain difference of rates."""
    if live is None or simulated is None:
        return None
    if metric.is_rate:
        return simulated - live
    return simulated / live - 1.0 if live else None


def transfer(config: TransferConfig, on_run: OnRun | None = None) -> Transfer:
    """Runs every controller on both sides, with the same requests.

    Args:
        config: A configuration with a live server, and a profile of it.
        on_run: Called after every run with where it ran, how many are done and how many
            there are.

    Raises:
        ConfigurationError: The server is simulated, or there is no profile of it.
        PalsError: The live server failed.
    """
    if config.scenario.is_simulated:
        raise ConfigurationError("server: choose a live one, such as server=vllm")
    server = config.scenario.server_config
    if (
        isinstance(server, VllmServerConfig)
        and server.url
        and not (server.control and server.send_load)
    ):
        raise ConfigurationError(
            "server.control, server.send_load: the same requests under the same controllers need "
            "both; set them to true for a server that may be sent load and capped"
        )
    tell = on_run or (lambda where, done, total: None)
    profile = find_profile(config.scenario, config.profile)
    names = list(config.controllers)
    live_env = make_env(config.scenario)
    try:
        fit, simulated_env = _simulated(config, profile, live_env)
        live = {}
        for done, name in enumerate(names, start=1):
            live[name] = _run(config, live_env, name)
            tell("live", done, 2 * len(names))
        source = live[names[0]].power_source
    finally:
        live_env.close()
    simulated = {}
    for done, name in enumerate(names, start=len(names) + 1):
        simulated[name] = _run(config, simulated_env, name)
        tell("simulated", done, 2 * len(names))
    return Transfer(fit, live, simulated, source)


def _simulated(
    config: TransferConfig, profile: Profile, live: ServingEnv
) -> tuple[DeviceFit, ServingEnv]:
    """Builds the simulator's counterpart of a live server."""
    fit, simulated = counterpart(
        config.scenario,
        profile,
        caps_w=list(live.context.grid.power_caps_w),
        model_path=None if config.model_path is None else str(config.model_path),
    )
    workload: Workload = catalog.build("workload", simulated.workload)
    if workload.rate is None and workload.needs_capacity:
        # The same requests on both sides: the rate follows from the live server's capacity.
        workload.rate = live.system.offered_tok_s / workload.mean_output_tokens
    # The same levels, too: what was found on the live server may be one of them.
    levels = list(live.context.grid.max_num_seqs)
    action = replace(catalog.build("action", simulated.action), max_num_seqs=levels)
    return fit, simulated_env(replace(simulated, workload=workload, action=action))


def _run(config: TransferConfig, env: ServingEnv, name: str) -> RunMetrics:
    controller: Controller = catalog.build("controller", name)
    controller.bind(env.context)
    controller.prepare(RunPreparation(config.scenario, config.options(name), None))
    episode = run_episode(env, controller, seed=config.seed, duration_s=config.duration)
    return summarise(episode, env.context)
