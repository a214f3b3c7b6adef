"""What the command line may switch on and a file may not: packages, and Hydra's own doings.

Configuration files may come from elsewhere (``hydra.searchpath``). Hydra itself would call what
their ``hydra:`` part names, before any job begins, and set the environment of the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from envs import catalog
from envs.errors import ConfigurationError

_KEY = "allow_packages"
_HYDRAS = ("hydra.", "hydra_plugins.", "optuna.samplers.")
_LOGGING = {
    "logging.FileHandler", "logging.Formatter", "logging.NullHandler", "logging.StreamHandler",
    "colorlog.ColoredFormatter", "rich.logging.RichHandler",
}  # fmt: skip


def allow_named_packages(arguments: Iterable[str]) -> None:
    """Allows the packages that ``allow_packages=[...]`` names among a command line's arguments.

    Called before Hydra composes: a user's files may inherit the schema of a class of theirs,
    which is imported then.
    """
    for text in arguments:
        if text.lstrip("+").startswith(f"{_KEY}="):
            for package in _as_list(OverridesParser.create().parse_override(text).value()):
                catalog.allow_package(str(package))


def refuse_other_packages(config: DictConfig) -> None:
    """Checks that a configuration's ``allow_packages`` are allowed already.

    Raises:
        ConfigurationError: A file names a package; a file cannot vouch for code.
    """
    named = {str(name) for name in _as_list(config.get(_KEY))}
    others = sorted(named - catalog.allowed_packages())
    if others:
        raise ConfigurationError(
            f"{_KEY}: a file names {', '.join(others)}, and only the command line or "
            f"PALS_ALLOW_PACKAGES may; if you trust their code, add {_KEY}=[{','.join(others)}]"
        )


@contextmanager
def foreign_hydra_refused(arguments: Sequence[str]) -> Iterator[None]:
    """Has every configuration that Hydra composes checked before Hydra acts on it.

    Args:
        arguments: The command line's, which may set what files may not.
    """
    load = ConfigLoaderImpl.load_configuration

    def load_checked(self: ConfigLoaderImpl, *args: Any, **options: Any) -> DictConfig:
        config = load(self, *args, **options)
        refuse_foreign_hydra(config.get("hydra"), arguments)
        return config

    ConfigLoaderImpl.load_configuration = load_checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]


def refuse_foreign_hydra(node: Any, arguments: Sequence[str] = ()) -> None:
    """Checks that the ``hydra`` part of a configuration names only Hydra's own classes.

    Raises:
        ConfigurationError: It names another, or sets environment variables.
    """
    if node is None:
        return
    plain: Any = OmegaConf.to_container(node, resolve=False)
    for key, target in _values("hydra", plain, "_target_"):
        package = str(target).partition(".")[0]
        if not str(target).startswith(_HYDRAS) and package not in catalog.allowed_packages():
            raise ConfigurationError(f"{key}: {target!r} is not Hydra's own, and would be called")
    for part in ("job_logging", "hydra_logging"):
        settings = plain.get(part)
        for key, target in _values(f"hydra.{part}", settings, "class"):
            if target not in _LOGGING:
                raise ConfigurationError(f"{key}: {target!r} is none of {sorted(_LOGGING)}")
        for key, target in _values(f"hydra.{part}", settings, "()"):
            if target not in _LOGGING:
                raise ConfigurationError(f"{key}: {target!r} would be called")
    on_line = any("hydra.job.env_set" in text for text in arguments)
    if (plain.get("job") or {}).get("env_set") and not on_line:
        raise ConfigurationError("hydra.job.env_set: only the command line may set variables")


def _values(key: str, node: Any, wanted: str) -> Iterator[tuple[str, Any]]:
    """Yields full key and value of every entry named ``wanted`` below a node."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == wanted:
                yield f"{key}.{name}", value
            yield from _values(f"{key}.{name}", value, wanted)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _values(f"{key}[{index}]", value, wanted)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) or OmegaConf.is_list(value) else [value]
