"""Optional dependencies: which extra brings a library that is not installed.

The base installation runs every simulated experiment. Training, plotting, tracking and live
servers need more libraries; a missing one is reported in one line.
"""

from __future__ import annotations

DISTRIBUTION = "pals-gym"
EXTRAS: dict[str, str] = {
    "torch": "train",
    "stable_baselines3": "train",
    "sb3_contrib": "train",
    "wandb": "wandb",
    "matplotlib": "plot",
    "aiohttp": "live",
    "prometheus_client": "live",
    "pynvml": "live",
    "ray": "ray",
    "pettingzoo": "ray",
    "optuna": "tune",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "minari": "minari",
    "h5py": "minari",
}
"""The extra that installs a library, by the library's top-level module."""


def missing_extra(error: ImportError) -> str | None:
    """Returns one line that names the extra of a missing import.

    Args:
        error: What the import raised.

    Returns:
        The message; ``None`` if the module belongs to no extra.
    """
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    return (
        f"this needs {module}, which is not installed: "
        f"pip install '{DISTRIBUTION}[{EXTRAS[module]}]'"
    )
