"""Where profiles lie: found by what they depend on, made when they are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from baselines.profile import Profile, ProfileRow
from envs.cache import atomic_write_bytes, atomic_write_text, cache_dir
from envs.errors import ConfigurationError
from envs.scenario import Scenario, described
from experiments.profiling.sweep import OnSetting, ProfileConfig, parallelism, sweep
from experiments.records.hashing import digest, simulator_digest

_PARTS = ("gpu", "model", "server", "action", "calibration", "domain_randomization")
_ARRIVALS = ("load", "rate")
"""What of a workload a profile does not depend on: the server is saturated in any case."""


def profile_key(scenario: Scenario, settings: ProfileConfig) -> str:
    """Returns the hash of all that a profile depends on: server, lengths, grid, settings."""
    content = scenario.content()
    parts = {key: content[key] for key in _PARTS}
    workload = {k: v for k, v in content["workload"].items() if k not in _ARRIVALS}
    how = {k: v for k, v in described("profile", settings).items() if k != "path"}
    code = simulator_digest() if scenario.is_simulated else "live"
    return digest(parts, workload, how, code)


def cached_file(scenario: Scenario, settings: ProfileConfig) -> Path:
    """Returns the place of the scenario's profile in the cache."""
    return cache_dir() / "profiles" / f"{profile_key(scenario, settings)}.json"


def find_profile(
    scenario: Scenario, settings: ProfileConfig, on_setting: OnSetting | None = None
) -> Profile:
    """Returns the scenario's profile.

    That is the file ``profile.path`` names, or else the cached one. A simulated server is
    profiled on the spot when there is none.

    Args:
        scenario: What is controlled.
        settings: How a profile is made, or where a finished one lies.
        on_setting: See :func:`experiments.profiling.sweep.sweep`.

    Raises:
        ConfigurationError: There is no profile of a live server, or a file is not a profile
            of this server.
    """
    if settings.path is not None:
        return _parallel_as(scenario, read_profile(Path(settings.path).expanduser()))
    file = cached_file(scenario, settings)
    if file.is_file():
        return _parallel_as(scenario, read_profile(file))
    if not scenario.is_simulated:
        raise ConfigurationError(
            "profile: this controller needs an offline profile and there is none of this "
            "server; a run never profiles a live server by itself. Make one with\n"
            "    python -m experiments.profile server=...\n"
            "with the same gpu, model, server, workload and action as the run, or name a "
            "finished one with profile.path=/path/to/profile.json"
        )
    return make_profile(scenario, settings, on_setting)


def make_profile(
    scenario: Scenario, settings: ProfileConfig, on_setting: OnSetting | None = None
) -> Profile:
    """Sweeps the server and puts its profile into the cache."""
    rows = sweep(scenario, settings, on_setting)
    profile = _parallel_as(scenario, _profile(rows, profile_key(scenario, settings)))
    atomic_write_text(cached_file(scenario, settings), _as_json(profile))
    return profile


def write_profile(profile: Profile, directory: Path) -> None:
    """Writes ``profile.parquet``, ``profile.csv`` and ``profile.json`` into a folder."""
    import pandas

    frame = pandas.DataFrame(profile.rows, columns=list(ProfileRow._fields))
    atomic_write_bytes(directory / "profile.parquet", frame.to_parquet(index=False))
    atomic_write_text(directory / "profile.csv", frame.to_csv(index=False))
    atomic_write_text(directory / "profile.json", _as_json(profile))


def read_profile(file: Path) -> Profile:
    """Reads a ``profile.json``.

    Raises:
        ConfigurationError: There is no such file, or it is not a profile.
    """
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        rows = [ProfileRow(**row) for row in content["rows"]]
        profile = _profile(rows, str(content["key"]))
    except OSError as error:
        raise ConfigurationError(f"profile.path: cannot read {file} ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{file}: not a profile ({type(error).__name__}: {error}); delete it, or make it "
            "again with python -m experiments.profile"
        ) from error
    return profile


def _profile(rows: list[ProfileRow], key: str) -> Profile:
    return Profile(tuple(rows), 1, 1, 1, key)


def _parallel_as(scenario: Scenario, profile: Profile) -> Profile:
    """Returns the profile for the parallelism of the scenario's server.

    Raises:
        ConfigurationError: No row of the profile has that parallelism.
    """
    own = parallelism(scenario)
    sizes = {(row.tensor_parallel, row.expert_parallel, row.data_parallel) for row in profile.rows}
    if own not in sizes:
        raise ConfigurationError(
            "profile.path: no row has the server's tensor, expert and data parallel sizes "
            f"{tuple(own)}"
        )
    return Profile(profile.rows, *own, profile.key)


def _as_json(profile: Profile) -> str:
    rows = [row._asdict() for row in profile.rows]
    return json.dumps({"key": profile.key, "rows": rows}, indent=1, allow_nan=False) + "\n"
