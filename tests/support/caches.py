"""Caches of a test's own that share what is dear: the compiled engine (``tests/conftest.py``)."""

from __future__ import annotations

from pathlib import Path


def own_cache(folder: Path) -> Path:
    """Makes an empty cache folder; compiled code, which takes long to make, lies elsewhere."""
    folder.mkdir(parents=True)
    return folder
