"""The scenarios of the standing comparison as environments with names of their own.

``azure_trace_70`` in ``conf/suite/test.yaml`` is ``pals/AzureTrace70-v0``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import yaml

SUITE_FILE = Path(__file__).resolve().parents[1] / "conf" / "suite" / "test.yaml"
_PARTS = ("model", "gpu", "server", "workload", "objective")
"""The keys of a scenario that say what is controlled; the others are for reports."""


def environment_id(name: str) -> str:
    """Returns the id of a scenario's environment."""
    return f"pals/{''.join(word.capitalize() for word in name.split('_'))}-v0"


def suite_parts(file: Path = SUITE_FILE) -> dict[str, dict[str, Any]]:
    """Returns what each scenario of a suite's file sets, by its name."""
    scenarios: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))[
        "scenarios"
    ]
    return {
        name: {key: value for key, value in scenario.items() if key in _PARTS}
        for name, scenario in scenarios.items()
    }


def register_suite(max_episode_steps: int) -> None:
    """Registers an environment for each scenario of the standing comparison.

    Args:
        max_episode_steps: Steps after which an episode is truncated.
    """
    for name, parts in suite_parts().items():
        gymnasium.register(
            id=environment_id(name),
            entry_point="envs.factory:make_simulated",
            vector_entry_point="envs.factory:make_simulated_vector",
            max_episode_steps=max_episode_steps,
            kwargs=parts,
        )
