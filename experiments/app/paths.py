"""Paths on the command line as people have them: ``~``, spaces, apostrophes, models' folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from envs.errors import ConfigurationError
from envs.scenario import is_model_file
from envs.user_paths import user_path

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
    if value and is_model_file(_unquoted(value)):
        value = _unquoted(value)
    whole = is_model_file(value)
    several = [value] if whole and _exists(user_path(value, "model")) else value.split(",")
    files = [part for part in several if is_model_file(part)]
    if not files:
        return [f"model={value}"]
    if len(files) < len(several):
        others = ", ".join(part for part in several if part not in files)
        raise ConfigurationError(
            f"model: a sweep is over names ({others}) or over files ({', '.join(files)}), not both"
        )
    paths = ",".join(_quoted(str(user_path(part, "model"))) for part in files)
    return ["model=huggingface", f"model.path={paths}"]


def _path(key: str, value: str) -> str:
    if not value:
        return value
    bare = _unquoted(value)
    if bare.startswith("~"):  # nothing else begins so
        whole = [bare] if bare != value or _exists(user_path(bare, key)) else bare.split(",")
        return ",".join(_spelt(str(user_path(part, key))) for part in whole)
    if value[0] in "'\"[{":
        return value
    path = Path(value)
    if key.lstrip("+") not in _FOLDERS and not _exists(path):
        return value
    return _spelt(value)


def _unquoted(value: str) -> str:
    """Returns what stands in the quotes around a whole value."""
    quote, inner = value[0], value[1:-1]
    quoted = quote in "'\"" and len(value) > 1 and value[-1] == quote
    return inner if quoted and quote not in inner and "\\" not in inner else value


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long to be a path
        return False


def _spelt(text: str) -> str:
    return _quoted(text) if _SPECIAL.search(text) or text.startswith("~") else text


def _quoted(text: str) -> str:
    """Returns a text that Hydra takes as it is."""
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", text)
    return f"'{escaped}'"
