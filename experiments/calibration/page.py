"""Replaces the marked blocks of a Markdown page by freshly made tables."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from envs.cache import atomic_write_text
from envs.errors import ConfigurationError


def fill(page: Path, blocks: Mapping[str, Sequence[str]]) -> None:
    """Replaces what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Args:
        page: The file.
        blocks: Lines by block name.

    Raises:
        ConfigurationError: The file is not there or lacks a block.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"page: cannot read {page} ({error.strerror})") from error
    for name, lines in blocks.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        body = "\n".join(lines) + "\n"
        text, found = re.subn(
            pattern, lambda m, body=body: m[1] + body + m[2], text, flags=re.DOTALL
        )  # fmt: skip
        if found != 1:
            raise ConfigurationError(f"page: {page} has {found} blocks {name!r}, not one")
    atomic_write_text(page, text)


def copy_pictures(pictures: Iterable[Path], folder: Path) -> None:
    """Copies pictures to the page's folder as ``physics_NAME.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        shutil.copyfile(picture, folder / f"physics_{picture.name}")
