"""NVML's Python bindings: where they are, what their errors mean, what they tell of a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from envs.errors import DeviceError
from envs.live.errors import (
    DeviceLostError,
    DeviceNotFoundError,
    DeviceNotSupportedError,
    DevicePermissionError,
    DeviceRangeError,
)


def library() -> ModuleType:
    """Returns the bindings.

    Raises:
        DeviceNotFoundError: The package is not installed.
    """
    try:
        import pynvml
    except ImportError as error:
        raise DeviceNotFoundError(
            "device=nvml needs the package nvidia-ml-py (pip install 'pals-gym[live]')"
        ) from error
    found: ModuleType = pynvml
    return found


def kind_of(nvml: Any, code: int) -> tuple[type[DeviceError], str]:
    """Returns this project's type of an error code, and what to do about it."""
    kinds: dict[int, tuple[type[DeviceError], str]] = {
        nvml.NVML_ERROR_NO_PERMISSION: (
            DevicePermissionError,
            "setting needs root (docs/live.md); server.control=false only looks on",
        ),
        nvml.NVML_ERROR_NOT_SUPPORTED: (
            DeviceNotSupportedError,
            "the GPU or its mode (MIG, for one) does not allow it",
        ),
        nvml.NVML_ERROR_GPU_IS_LOST: (DeviceLostError, "it needs a reset or a reboot"),
        nvml.NVML_ERROR_RESET_REQUIRED: (DeviceLostError, "it needs a reset"),
        nvml.NVML_ERROR_UNINITIALIZED: (DeviceLostError, "NVML was shut down"),
        nvml.NVML_ERROR_INVALID_ARGUMENT: (
            DeviceRangeError,
            "the value or the GPU's number is out of range",
        ),
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            DeviceNotFoundError,
            "is an NVIDIA driver installed, and visible inside this container?",
        ),
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            DeviceNotFoundError,
            "load the NVIDIA driver",
        ),
        nvml.NVML_ERROR_NOT_FOUND: (DeviceNotFoundError, "see nvidia-smi -L"),
    }
    return kinds.get(code, (DeviceError, "see the driver's log"))


@contextlib.contextmanager
def nvml_errors(nvml: Any, what: str) -> Iterator[None]:
    """Turns NVML's error codes into this project's types.

    Args:
        nvml: The bindings.
        what: What is being done, for the message.
    """
    try:
        yield
    except nvml.NVMLError as error:
        kind, advice = kind_of(nvml, error.value)
        raise kind(f"nvml, {what}: {error}; {advice}") from error


def gpu_facts(nvml: Any, gpus: Mapping[str, Any]) -> dict[str, Any]:
    """Returns driver, and by UUID name, limits in watts, persistence mode and processes.

    Args:
        nvml: The bindings.
        gpus: Handles by UUID.
    """

    def told(ask: Callable[..., Any], *arguments: Any) -> Any:
        with contextlib.suppress(nvml.NVMLError):
            return ask(*arguments)
        return None

    def watts(ask: Callable[..., Any], handle: Any) -> float | None:
        milliwatts = told(ask, handle)
        return None if milliwatts is None else milliwatts * 1e-3

    return {
        "driver": told(nvml.nvmlSystemGetDriverVersion),
        "gpus": {
            uuid: {
                "name": told(nvml.nvmlDeviceGetName, handle),
                "power_limit_w": watts(nvml.nvmlDeviceGetPowerManagementLimit, handle),
                "default_limit_w": watts(nvml.nvmlDeviceGetPowerManagementDefaultLimit, handle),
                "persistence_mode": told(nvml.nvmlDeviceGetPersistenceMode, handle),
                "processes": [
                    process.pid
                    for process in told(nvml.nvmlDeviceGetComputeRunningProcesses_v3, handle) or []
                ],
            }
            for uuid, handle in gpus.items()
        },
    }
