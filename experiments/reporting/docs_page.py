"""Replaces the marked blocks of a Markdown page by new tables."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from envs.cache import atomic_write_text
from envs.errors import ConfigurationError


def fill(page: Path, blocks: Mapping[str, str]) -> None:
    """Replaces what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Args:
        page: The file.
        blocks: Markdown by block name.

    Raises:
        ConfigurationError: The file is not there or lacks a block.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"page: cannot read {page} ({error.strerror})") from error
    for name, body in blocks.items():
        parts = re.split(f"<!-- (?:begin|end) {name} -->", text)
        if len(parts) != 3:
            raise ConfigurationError(f"page: {page} has not exactly one block {name!r}")
        text = f"{parts[0]}<!-- begin {name} -->\n{body}\n<!-- end {name} -->{parts[2]}"
    atomic_write_text(page, text)


def copy_plots(plots: Iterable[Path], folder: Path) -> None:
    """Copies plots to the page's folder as ``physics_NAME.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        shutil.copyfile(plot, folder / f"physics_{plot.name}")
