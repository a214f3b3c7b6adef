"""Trainings that go on as they were configured, and what of that an agent's bundle keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from envs.errors import ConfigurationError
from envs.fields import check_values
from envs.sources import code_hash
from envs.user_paths import user_path
from experiments.app.composition import saved_settings
from experiments.records.hashing import digest
from experiments.records.provenance import git_commit, version

CONFIG_FILE = "config.yaml"
_MAY_CHANGE = {"resume", "tracker", "debug", "allow_packages"}
_LEFT = {
    "bundle": "an agent (bundle); run it with controller=agent controller.bundle=DIR",
    "checkpoint.pt": "a training that was ended (checkpoint.pt); go on with it by resume=DIR",
    "student.pt": "a teaching that was ended (student.pt); go on with it by resume=DIR",
}
"""What a folder may hold that a new training would replace."""
_NOT_KEPT = ("_target_", "allow_packages", "debug", "experiment", "resume", "tracker")


class Resumable(Protocol):
    """The configuration of something that can be ended and goes on later.

    Attributes:
        noun: What it is called.
        resume: Folder of one that was ended before its time; ``None`` for none.
    """

    noun: ClassVar[str]
    resume: str | None
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def record(self) -> dict[str, Any]:
        """Returns the configuration as plain values."""
        ...


AnyResumable = TypeVar("AnyResumable", bound=Resumable)


def resumed_config(config: AnyResumable, overrides: Sequence[str]) -> AnyResumable:
    """Returns the configuration of what ``resume`` names, or ``config`` itself.

    Args:
        config: The configuration.
        overrides: What the command line set.

    Raises:
        ConfigurationError: The folder holds none, or the command line would change it.
    """
    if config.resume is None:
        return config
    may_change = _MAY_CHANGE & {item.name for item in fields(config)}
    names = {text.lstrip("+~").partition("=")[0].partition(".")[0] for text in overrides}
    fixed = names - may_change
    if fixed:
        raise ConfigurationError(
            f"resume: a {config.noun} goes on as it was configured; {', '.join(sorted(fixed))} "
            f"cannot be changed (only {', '.join(sorted(may_change))} can)"
        )
    file = user_path(config.resume, "resume") / CONFIG_FILE
    if not file.exists():
        raise ConfigurationError(f"resume: there is no {CONFIG_FILE} in {config.resume}")
    try:
        saved = saved_settings(
            file, type(config), _MAY_CHANGE | {"experiment"}, getattr(config, "renamed", {})
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"resume: {error}") from error
    check_values(type(config), saved, "")
    kept = {key: getattr(config, key) for key in may_change}
    return type(config)(**{**saved, **kept})


def refuse_used(config: Resumable, directory: Path) -> None:
    """Checks that what is begun does not take the place of what took hours before.

    Args:
        config: Its configuration.
        directory: Its folder.

    Raises:
        ConfigurationError: The folder holds a training or teaching.
    """
    if config.resume is not None and user_path(config.resume, "resume").samefile(directory):
        return
    for name, advice in _LEFT.items():
        if (directory / name).exists():
            raise ConfigurationError(
                f"hydra.run.dir: {directory} holds {advice}, or begin in another folder"
            )


def kept_configuration(config: Resumable) -> dict[str, Any]:
    """Returns what a bundle keeps of the configuration that its agent comes from."""
    return {key: value for key, value in config.record().items() if key not in _NOT_KEPT}


def bundle_provenance(kept: dict[str, Any]) -> dict[str, Any]:
    """Returns where a bundle comes from, for the configuration that it keeps."""
    return {
        "version": version(),
        "git_commit": git_commit(),
        "configuration_hash": digest(kept),
        "code_hash": code_hash(),
    }
