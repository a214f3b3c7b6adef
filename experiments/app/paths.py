"""Paths on the command line as people have them: ``~``, spaces, apostrophes, models' folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from envs.errors import ConfigurationError
from envs.scenario import is_model_file

_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "resume")
"""Keys of folders, which need not be there yet."""
_SPECIAL = re.compile(r"[\s'\"\\(){}\[\],:=]")
"""Characters that mean something to Hydra."""


def with_paths(arguments: Sequence[str]) -> list[str]:
    """Returns a command line on which paths are spelt as Hydra needs them.

    ``model=FOLDER`` and ``model=FILE`` become the model that is described there, several of them a
    sweep; a name in the catalogue is always that model, whatever folder is called the same. ``~``
    is the home folder, and what Hydra would take apart is quoted where it is a file's path.

    Raises:
        ConfigurationError: A sweep is over names of models and files.
    """
    spelt: list[str] = []
    for text in arguments:
        key, equals, value = text.partition("=")
        if equals and key == "model":
            spelt += _model(value)
        elif equals and not text.startswith("-"):
            spelt.append(f"{key}={_path(key, value)}")
        else:
            spelt.append(text)
    return spelt


def _model(value: str) -> list[str]:
    whole = is_model_file(value)
    several = [value] if whole and Path(value).expanduser().exists() else value.split(",")
    files = [part for part in several if is_model_file(part)]
    if not files:
        return [f"model={value}"]
    if len(files) < len(several):
        others = ", ".join(part for part in several if part not in files)
        raise ConfigurationError(
            f"model: a sweep is over names ({others}) or over files ({', '.join(files)}), not both"
        )
    paths = ",".join(_quoted(str(Path(part).expanduser())) for part in files)
    return ["model=huggingface", f"model.path={paths}"]


def _path(key: str, value: str) -> str:
    if not value or value[0] in "'\"[{":
        return value
    path = Path(value).expanduser() if value.startswith("~") else Path(value)
    if key.lstrip("+") not in _FOLDERS and not _exists(path):
        return value
    return _quoted(str(path)) if _SPECIAL.search(value) else str(path) if value[0] == "~" else value


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long to be a path
        return False


def _quoted(text: str) -> str:
    """Returns a text that Hydra takes as it is."""
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", text)
    return f"'{escaped}'"
