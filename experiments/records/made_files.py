"""Hashes of the files that a command made, which tell whether one was edited afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from envs.cache import atomic_write_text
from envs.errors import ConfigurationError
from envs.safe_files import read_regular
from envs.strict_json import read_json
from experiments.records.hashing import file_digest

HASHES_FILE = "hashes.json"
_MOST_BYTES = 16 << 20


def note_made(folder: Path, names: Iterable[str]) -> None:
    """Notes the hashes of files that were just made, beside those that were noted before.

    Args:
        folder: Where they are; its ``hashes.json`` is written.
        names: Their names.
    """
    try:
        before = _noted(folder)
    except ConfigurationError:
        before = {}
    made = {name: file_digest(folder / name) for name in names}
    known = {name: own for name, own in before.items() if (folder / name).is_file()}
    text = json.dumps({**known, **made}, indent=2, sort_keys=True)
    atomic_write_text(folder / HASHES_FILE, text + "\n")


def refuse_edited(file: Path) -> None:
    """Refuses a file that is not as it was made; of an earlier version's nothing is known.

    Raises:
        ConfigurationError: It was edited, or the hashes beside it are damaged.
    """
    noted = _noted(file.parent).get(file.name)
    if noted is not None and noted != file_digest(file):
        raise ConfigurationError(
            f"{file}: was edited after it was made ({HASHES_FILE} has another hash of it); "
            "make it again"
        )


def _noted(folder: Path) -> dict[str, str]:
    file = folder / HASHES_FILE
    if not file.is_file():
        return {}
    try:
        found = read_json(read_regular(file, _MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file}: is damaged ({error}); make it again") from error
    if not isinstance(found, dict) or not all(isinstance(own, str) for own in found.values()):
        raise ConfigurationError(f"{file}: is damaged (it holds no names and hashes)")
    return found
