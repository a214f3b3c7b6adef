"""Makes the schema of every configurable class known to Hydra."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from envs import catalog


def register() -> None:
    """Stores the schema behind every file of ``conf`` under ``schema/<import path>``.

    A file inherits its schema, so that a misspelt key or a wrong type fails while composing.
    Schemas lie below ``schema/`` and therefore do not show up as choices.
    """
    store = ConfigStore.instance()
    for path in catalog.schema_paths():
        group, _, name = path.rpartition("/")
        store.store(group=f"schema/{group}", name=name, node=catalog.schema(path))
