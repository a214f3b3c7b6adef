"""Builds environments from names or configurations: what ``gymnasium.make`` calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs import catalog
from envs.objectives.objective import Objective
from envs.rewards import Reward
from envs.serving import ServingEnv

if TYPE_CHECKING:
    from envs.simulator.server_spec import ServerSpec

MODEL = "mixtral_8x7b"
GPU = "a100_sxm4_80gb"
WORKLOAD = "poisson_gsm8k"
OBJECTIVE = "throughput_target"
ACTION = "grid"
REWARD = "default"
SERVER = "simulated"


def build_model(choice: Any) -> Any:
    """Builds a model from a name, a configuration, or the path of a ``config.json``."""
    if isinstance(choice, str) and (choice.endswith(".json") or Path(choice).is_dir()):
        from envs.simulator.models import ModelSpec

        return ModelSpec.from_huggingface(choice)
    return catalog.build("model", choice)


def build_server_spec(
    model: Any = MODEL,
    gpu: Any = GPU,
    workload: Any = WORKLOAD,
    server: Any = SERVER,
    calibration: Any = None,
) -> ServerSpec:
    """Builds a server to be simulated; arguments as in :func:`make_simulated`."""
    from envs.simulator.server_spec import ServerSpec

    built = None if calibration is None else catalog.build("calibration", calibration)
    return ServerSpec(
        gpu=catalog.build("gpu", gpu),
        model=build_model(model),
        server=catalog.build("server", server),
        workload=catalog.build("workload", workload),
        calibration=built,
    )


def make_simulated(
    model: Any = MODEL,
    gpu: Any = GPU,
    workload: Any = WORKLOAD,
    objective: Any = OBJECTIVE,
    action: Any = ACTION,
    reward: Any = REWARD,
    server: Any = SERVER,
    calibration: Any = None,
    interval: float = 0.5,
    duration: float = 600.0,
    domain_randomization: bool = False,
) -> ServingEnv:
    """Builds an environment around a simulated server (``pals/Simulated-v0``).

    Every choice is a name from ``conf/<group>``, a mapping with the keys of such a file
    (``{"base": "poisson_gsm8k", "load": 1.2}``), a composed configuration or a built object.

    Args:
        model: Model, or the path of a Hugging Face ``config.json``.
        gpu: GPU type.
        workload: Arrivals and request lengths.
        objective: Targets, budgets and latency SLOs.
        action: Action encoding.
        reward: Reward terms and weights.
        server: Parallelism and limits of the server.
        calibration: Coefficients of the GPU type; ``None`` takes those the GPU names.
        interval: Control interval in seconds.
        duration: Time in seconds over which the objective's signals are laid out.
        domain_randomization: Draws the calibration again for every episode.

    Raises:
        ConfigurationError: A name, key or value is wrong; the message names the key.
    """
    from envs.simulator.server import SimulatedServer

    server_spec = build_server_spec(model, gpu, workload, server, calibration)
    built_reward: Reward = catalog.build("reward", reward)
    built_objective: Objective = catalog.build("objective", objective)
    reference = None
    if built_reward.qos_definition == "reference":
        reference = SimulatedServer(server_spec, randomize=domain_randomization)
    return ServingEnv(
        SimulatedServer(server_spec, randomize=domain_randomization),
        built_objective,
        catalog.build("action", action),
        built_reward,
        interval_s=interval,
        horizon_s=duration,
        power_caps_w=server_spec.gpu.power_caps_w,
        reference=reference,
    )
