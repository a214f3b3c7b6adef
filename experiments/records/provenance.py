"""Where a result comes from: version, commit, configuration, calibration, platform."""

from __future__ import annotations

import platform
import subprocess
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from agents.bundle import find_bundle, read_bundle
from envs import catalog
from envs.simulator.calibration import calibration_hash
from experiments.records.hashing import digest, simulator_digest

DISTRIBUTION = "pals-gym"
_ROOT = Path(__file__).resolve().parents[2]
_LIBRARIES = ("gymnasium", "numba", "numpy", "scikit-learn", "torch")
_NOT_PART_OF_A_RESULT = (
    "_target_", "allow_packages", "controllers", "debug", "executor", "experiment", "seeds",
    "tracker",
)  # fmt: skip


def configuration_hash(record: Mapping[str, Any]) -> str:
    """Returns the hash of everything in a configuration that a run's numbers depend on."""
    return digest({k: v for k, v in record.items() if k not in _NOT_PART_OF_A_RESULT})


def provenance(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what identifies the code, configuration and platform behind a run.

    Args:
        record: The run's configuration as plain values, by the keys of the command line.
    """
    return {
        "version": version(),
        "git_commit": git_commit(),
        "configuration_hash": configuration_hash(record),
        "calibration_hash": gpu_calibration_hash(record),
        "code_hash": simulator_digest(),
        "agent_hash": agent_hash(record),
        "platform": platform_facts(),
    }


def gpu_calibration_hash(record: Mapping[str, Any]) -> str | None:
    """Returns the hash of the GPU's calibration; ``None`` where the GPU has none."""
    choice = (record.get("gpu") or {}).get("calibration")
    return None if choice is None else calibration_hash(catalog.build("calibration", choice))


def agent_hash(record: Mapping[str, Any]) -> str | None:
    """Returns the hash of the trained agent's weights; ``None`` for other controllers."""
    controller = record.get("controller") or {}
    name = controller.get("bundle")
    return None if name is None else read_bundle(find_bundle(str(name))).sha256


@cache
def version() -> str:
    """Returns the version of this distribution: of the source tree, or as installed."""
    project = _ROOT / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return _installed(DISTRIBUTION) or "unknown"


@cache
def git_commit() -> str | None:
    """Returns the commit of the source tree, with ``-dirty`` when files differ from it.

    ``None`` when the source is not in a git repository of its own (an installed package).
    """
    if not (_ROOT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(_ROOT), *arguments],
        capture_output=True, text=True, check=True, timeout=10,
    )  # fmt: skip
    return done.stdout.strip()


@cache
def platform_facts() -> dict[str, str | None]:
    """Returns the platform and the versions of the libraries that numbers depend on."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: _installed(name) for name in _LIBRARIES},
    }


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
