"""Caches of a test's own that share what is dear: the compiled engine."""

from __future__ import annotations

from pathlib import Path

from envs.cache import cache_dir

COMPILED = cache_dir() / "compiled"
"""Where compiled code lies when no test has changed the cache folder."""


def own_cache(folder: Path) -> Path:
    """Makes a cache folder that is empty but for compiled code, which takes long to make."""
    folder.mkdir(parents=True)
    COMPILED.mkdir(parents=True, exist_ok=True)
    (folder / "compiled").symlink_to(COMPILED, target_is_directory=True)
    return folder
