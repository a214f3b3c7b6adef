"""A simulated server like a live one, calibrated by the live one's profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from baselines.profile import Profile
from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import build_model
from envs.live.config import VllmServerConfig
from envs.live.devices.throttled_cpu import ThrottledCpu
from envs.scenario import Scenario
from envs.simulator.config import SimulatedServerConfig
from experiments.sim_to_live.device_fit import (
    DeviceFit,
    fit_device,
    gpu_start,
    stand_in_gpu,
    stand_in_start,
)

_CAPS = 6


def counterpart(
    scenario: Scenario,
    profile: Profile,
    *,
    caps_w: Sequence[float] | None = None,
    model_path: str | None = None,
) -> tuple[DeviceFit, Scenario]:
    """Returns the scenario with a simulated server in place of its live one.

    Args:
        scenario: A scenario with a live vLLM server.
        profile: The server's profile.
        caps_w: Caps that controllers choose from; ``None`` takes those that the server's
            configuration or the device gives.
        model_path: ``config.json``, or a folder with one, of the model that is served; ``None``
            takes that of ``server.launch.model`` if it is a folder, else ``scenario.model``.

    Raises:
        ConfigurationError: Which model is served is not known, or the profile is too short.
    """
    server = scenario.server_config
    if not isinstance(server, VllmServerConfig):
        raise ConfigurationError(
            f"server: {type(server).__name__} has no simulated counterpart; choose server=vllm"
        )
    launched = server.launch.model
    named: Any = model_path or (
        launched if launched and Path(launched).is_dir() else scenario.model
    )
    if named is None:
        raise ConfigurationError("model: name the one that the live server serves")
    model = build_model(named)
    if isinstance(server.device, ThrottledCpu):
        device = server.device
        caps = caps_w or server.power_caps_w
        if caps is None:
            caps = np.linspace(device.cap_min_w, device.max_w, _CAPS).tolist()
        gpu, start = stand_in_gpu(device, caps), stand_in_start(device)
    else:
        if scenario.gpu is None:
            raise ConfigurationError("gpu: name the type that the live server runs on")
        gpu = catalog.build("gpu", scenario.gpu)
        start = gpu_start(gpu)
    workload = catalog.build("workload", scenario.workload)
    fit = fit_device(profile.rows, gpu, model, start, workload.mean_prompt_tokens)
    simulated = replace(
        scenario,
        model=model,
        gpu=gpu,
        workload=workload,
        server=SimulatedServerConfig(
            tensor_parallel=server.tensor_parallel,
            expert_parallel=server.expert_parallel,
            data_parallel=server.data_parallel,
            max_num_seqs=server.max_num_seqs or max(row.max_num_seqs for row in profile.rows),
            system_alpha=server.system_alpha,
            system_beta_w=server.system_beta_w,
        ),
        calibration=fit.calibration,
    )
    return fit, simulated
