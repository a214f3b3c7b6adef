"""Where a result comes from: version, commit, configuration, calibration, platform."""

from __future__ import annotations

import json
import platform
import subprocess
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from agents.bundle import find_bundle, read_bundle
from envs import catalog
from envs.masking import Masking
from envs.simulator.calibration import calibration_hash
from envs.sources import (
    LIBRARIES,
    code_hash,
    installed_version,
    library_versions,
    packages_hash,
    short_hash,
)
from experiments.records.hashing import digest

DISTRIBUTION = "pals-gym"
_ROOT = Path(__file__).resolve().parents[2]
_NOT_PART_OF_A_RESULT = (
    "_target_", "allow_packages", "controllers", "debug", "executor", "experiment", "seeds",
    "tracker",
)  # fmt: skip


_CAUSES = {
    "version": "another version",
    "configuration_hash": "another configuration, or an input file that changed",
    "calibration_hash": "another calibration",
    "agent_hash": "another trained agent",
    "code_hash": "other code",
    "packages_hash": "other code of the allowed packages",
}
"""What it means when a run's provenance differs from that of a run made now, by key."""


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns why a run would not be the same now, in words; empty where it would.

    Args:
        then: Provenance of the run.
        now: Provenance that it would have now.
    """
    found = [text for key, text in _CAUSES.items() if then.get(key) != now[key]]
    before, after = then.get("platform") or {}, now["platform"]
    for name in (*LIBRARIES, "machine"):
        if before.get(name) != after[name]:
            found.append(f"{name} {before.get(name) or 'none'}, now {after[name] or 'none'}")
    return found


def configuration_hash(record: Mapping[str, Any]) -> str:
    """Returns the hash of everything in a configuration that a run's numbers depend on."""
    shown = Masking(record)(record)  # a short secret could be guessed from a hash
    return digest({k: v for k, v in shown.items() if k not in _NOT_PART_OF_A_RESULT})


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
        "code_hash": code_hash(),
        "packages_hash": packages_hash(),
        "agent_hash": agent_hash(record),
        "platform": platform_facts(),
    }


def content_hash(result: Mapping[str, Any]) -> str:
    """Returns the hash of what a result says, which tells whether it was edited afterwards."""
    where = {k: v for k, v in result["provenance"].items() if k != "content_hash"}
    text = json.dumps({**result, "provenance": where}, sort_keys=True)
    return short_hash(text.encode())


def with_content_hash(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a result that has a provenance with :func:`content_hash` added to it."""
    where = {**result["provenance"], "content_hash": content_hash(result)}
    return {**result, "provenance": where}


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
    return installed_version(DISTRIBUTION) or "unknown"


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
        **library_versions(),
    }
