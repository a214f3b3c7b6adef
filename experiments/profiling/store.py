"""Where profiles lie: found by what they depend on, made when they are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from baselines.profile import Profile, ProfileRow
from envs.cache import atomic_write_bytes, atomic_write_text, cache_dir
from envs.errors import ConfigurationError
from envs.kept_files import say_once
from envs.safe_files import read_regular
from envs.scenario import Scenario, described
from envs.sources import computation_hash
from envs.strict_json import read_json
from envs.user_paths import user_path
from experiments.profiling.sweep import OnSetting, ProfileConfig, parallelism, sweep
from experiments.records.hashing import digest

_PARTS = ("gpu", "model", "server", "action", "calibration", "domain_randomization")
_MOST_BYTES = 256 << 20
_ARRIVALS = ("load", "rate")
"""What of a workload a profile does not depend on: the server is saturated in any case."""


def profile_key(scenario: Scenario, settings: ProfileConfig) -> str:
    """Returns the hash of all that a profile depends on: server, lengths, grid, settings.

    A live server's version of vLLM counts; it is asked of the server, which has to run.

    Raises:
        ServerError: It does not answer.
    """
    content = scenario.content()
    parts = {key: content[key] for key in _PARTS}
    workload = {k: v for k, v in content["workload"].items() if k not in _ARRIVALS}
    how = {k: v for k, v in described("profile", settings).items() if k != "path"}
    return digest(parts, workload, how, _engine(scenario))


def _engine(scenario: Scenario) -> Any:
    """Returns what computes or serves: our own code, or a release of vLLM."""
    server = scenario.server_config
    if server.is_simulated:
        return computation_hash()
    from envs.live.config import VllmServerConfig
    from envs.live.engine_version import engine_version

    return ["live", engine_version(server) if isinstance(server, VllmServerConfig) else None]


def cached_file(key: str) -> Path:
    """Returns the place in the cache of the profile with a key."""
    return cache_dir() / "profiles" / f"{key}.json"


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
        ServerError: A live server does not answer.
    """
    if settings.path is not None:
        return _parallel_as(scenario, read_profile(user_path(settings.path, "profile.path")))
    key = profile_key(scenario, settings)
    kept, problem = _kept(scenario, key)
    if kept is not None:
        return kept
    if not scenario.is_simulated:
        if problem is not None:
            raise ConfigurationError(f"{problem}; a live server is not profiled again by itself")
        raise ConfigurationError(
            "profile: this controller needs an offline profile and there is none of this "
            "server; a run never profiles a live server by itself. Make one with\n"
            "    python -m experiments.profile server=...\n"
            "with the same gpu, model, server, release of vLLM, workload and action as the run, "
            "or name a "
            "finished one with profile.path=/path/to/profile.json"
        )
    if problem is not None:
        say_once(f"{problem}; the profile is made again")
    return _made(scenario, settings, key, on_setting)


def _kept(scenario: Scenario, key: str) -> tuple[Profile | None, str | None]:
    """Returns the cached profile, or what is wrong with it, or neither where there is none."""
    try:
        file = cached_file(key)
        if not file.exists():
            return None, None
        profile = _parallel_as(scenario, read_profile(file, sealed=True))
    except (ConfigurationError, OSError) as error:
        return None, str(error)
    if profile.key != key:
        return None, f"{file} is the profile of another server"
    return profile, None


def make_profile(
    scenario: Scenario, settings: ProfileConfig, on_setting: OnSetting | None = None
) -> Profile:
    """Sweeps the server and puts its profile into the cache."""
    return _made(scenario, settings, profile_key(scenario, settings), on_setting)


def _made(
    scenario: Scenario, settings: ProfileConfig, key: str, on_setting: OnSetting | None
) -> Profile:
    rows = sweep(scenario, settings, on_setting)
    profile = _parallel_as(scenario, _profile(rows, key))
    try:
        atomic_write_text(cached_file(key), _as_json(profile))
    except (ConfigurationError, OSError) as error:
        if not scenario.is_simulated:
            raise
        say_once(f"the profile is not kept for later: {error}")
    return profile


def write_profile(profile: Profile, directory: Path) -> None:
    """Writes ``profile.parquet``, ``profile.csv`` and ``profile.json`` into a folder."""
    import pandas

    frame = pandas.DataFrame(profile.rows, columns=list(ProfileRow._fields))
    atomic_write_bytes(directory / "profile.parquet", frame.to_parquet(index=False))
    atomic_write_text(directory / "profile.csv", frame.to_csv(index=False))
    atomic_write_text(directory / "profile.json", _as_json(profile))


def read_profile(file: Path, *, sealed: bool = False) -> Profile:
    """Reads a ``profile.json``.

    Args:
        file: The file.
        sealed: Whether it has to hold the SHA-256 of its numbers; a user may take it out of a
            file of the user's own.

    Raises:
        ConfigurationError: There is no such file, or it is not a profile.
    """
    try:
        content: Any = read_json(read_regular(file, _MOST_BYTES))
        rows = [ProfileRow(**row) for row in content["rows"]]
        profile = _profile(rows, str(content["key"]))
        written = content.get("sha256")
    except ConfigurationError as error:
        raise ConfigurationError(f"profile.path: cannot read {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f"{file}: not a profile ({type(error).__name__}: {error}); delete it, or make it "
            "again with python -m experiments.profile"
        ) from error
    if sealed and written is None:
        raise ConfigurationError(f"{file}: is not as it was written (it holds no SHA-256)")
    if written not in (None, profile.sha256):
        raise ConfigurationError(
            f"{file}: its numbers were edited after it was measured (another SHA-256); measure it "
            "again with python -m experiments.profile, or take out its key sha256 if you mean it"
        )
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
    facts = {"key": profile.key, "sha256": profile.sha256, "rows": rows}
    return json.dumps(facts, indent=1, allow_nan=False) + "\n"
