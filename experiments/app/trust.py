"""What the command line may switch on and a file may not: packages, and Hydra's own doings.

Configuration files may come from elsewhere (``hydra.searchpath``). Hydra itself would call what
their ``hydra:`` part names, before any job begins, and set the environment of the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from envs import catalog
from envs.errors import ConfigurationError
from envs.user_paths import user_path
from experiments.app.stand_in import standing_in

_KEY = "allow_packages"
_SEARCH_PATH = "hydra.searchpath"
_HYDRAS = re.compile(
    r"hydra\.experimental\.callbacks\.[A-Z]\w*Callback"
    r"|hydra\._internal\.core_plugins\.basic_(launcher|sweeper)\.Basic(Launcher|Sweeper)"
    r"|hydra_plugins(\.[a-z_]\w*)+\.[A-Z]\w*(Launcher|Sweeper)"
    r"|optuna\.samplers\.[A-Z]\w*",
    re.ASCII,
)
_BUILT = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging")
_REFERENCE = re.compile(r"\$\{([^:{}]*)(:?)")
_STREAMS = {"ext://sys.stdout", "ext://sys.stderr"}
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


def add_named_folders(arguments: Iterable[str]) -> None:
    """Has choices found in the folders of ``hydra.searchpath`` among a command line's arguments.

    Hydra composes what a command itself is given; what a command builds by name, such as each
    controller of a benchmark, the catalogue finds.
    """
    for text in arguments:
        if text.lstrip("+").startswith(f"{_SEARCH_PATH}="):
            for place in _as_list(OverridesParser.create().parse_override(text).value()):
                kind, mark, folder = str(place).rpartition("://")
                if kind == "file" or not mark:
                    catalog.add_folder(user_path(folder, _SEARCH_PATH).resolve())


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

    with standing_in(ConfigLoaderImpl, "load_configuration", load_checked):
        yield


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
        if not _HYDRAS.fullmatch(str(target)) and package not in catalog.allowed_packages():
            raise ConfigurationError(f"{key}: {target!r} is not Hydra's own, and would be called")
    # wherever they stand: a part that is logged by may refer to another
    for name in ("class", "()"):
        for key, target in _values("hydra", plain, name):
            if target not in _LOGGING:
                raise ConfigurationError(
                    f"{key}: {target!r} would be called, and is none of {sorted(_LOGGING)}"
                )
    for part in _BUILT:
        for key, text in _texts(f"hydra.{part}", plain.get(part)):
            _refuse_hidden_parts(key, text)
    on_line = any("hydra.job.env_set" in text for text in arguments)
    if (plain.get("job") or {}).get("env_set") and not on_line:
        raise ConfigurationError("hydra.job.env_set: only the command line may set variables")


def _refuse_hidden_parts(key: str, text: str) -> None:
    """Checks that a text does not become a part that the checks before did not see.

    Raises:
        ConfigurationError: It refers to what stands outside ``hydra``, makes a mapping of text, or
            has something imported.
    """
    for name, resolver in _REFERENCE.findall(text):
        inside = name.startswith("hydra.") or (name.startswith(".") and name[1:2] != ".")
        if name not in ("now", "hydra", "oc.env") if resolver else not inside:
            raise ConfigurationError(
                f"{key}: {text!r} refers to what is not checked here; write the value itself"
            )
    if text.startswith(("ext://", "cfg://")) and text not in _STREAMS:
        raise ConfigurationError(f"{key}: {text!r} would be imported")


def _texts(key: str, node: Any) -> Iterator[tuple[str, str]]:
    """Yields full key and value of every text below a node."""
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, Mapping):
        for name, value in node.items():
            yield from _texts(f"{key}.{name}", value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _texts(f"{key}[{index}]", value)


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
