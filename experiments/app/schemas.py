"""Lets Hydra find the schema of every configurable class, by its import path."""

from __future__ import annotations

import copy

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from typing_extensions import override

from envs import catalog

_SCHEME = "dataclass"
_PREFIX = catalog.SCHEMA_PREFIX.lstrip("/")


class DataclassSource(ConfigSource):
    """Configurations ``schema/<import path>``: the fields and defaults of that dataclass.

    A file that inherits its schema fails while composing when a key is misspelt or a value
    has the wrong type. A class is imported when a composed file names it and not before. No
    list shows schemas, so that they do not appear as choices.
    """

    @staticmethod
    def scheme() -> str:
        """Returns the scheme of this source's addresses."""
        return _SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns the schema of a dataclass.

        Raises:
            ConfigurationError: There is no such class, or its package is not allowed.
        """
        path = config_path.removeprefix(_PREFIX).removesuffix(".yaml")
        return ConfigResult(
            config=copy.deepcopy(catalog.schema(path)),  # Hydra merges into it
            path=self.full_path(),
            provider=self.provider,
            header={"package": None},
        )

    def available(self) -> bool:
        """Returns that the source can be used."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Returns that nothing here is a group to choose from."""
        return False

    def is_config(self, config_path: str) -> bool:
        """Returns whether the path is one of a schema."""
        return config_path.startswith(_PREFIX)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Returns nothing: schemas are named, not chosen."""
        return []


class DataclassSearchPath(SearchPathPlugin):
    """Puts :class:`DataclassSource` at the end of Hydra's search path."""

    @override
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("schemas", f"{_SCHEME}://")


def register() -> None:
    """Makes schemas known to Hydra; further calls change nothing."""
    plugins = Plugins.instance()
    plugins.register(DataclassSource)
    plugins.register(DataclassSearchPath)
