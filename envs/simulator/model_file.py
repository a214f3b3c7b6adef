"""A model that is described by its Hugging Face ``config.json``, as a choice like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from envs.simulator.huggingface import read_config
from envs.simulator.models import ModelSpec
from envs.user_paths import user_path


@dataclass(kw_only=True, init=False)
class ModelFile(ModelSpec):
    """A shape read from a file; keys that are given beside the path take precedence.

    Args:
        path: The ``config.json``, or the folder that holds it.
        read_as: The ``model_type`` of a known architecture with the same layers, to read the
            file of an unknown one; empty for the file's own.
        **given: Fields of a :class:`ModelSpec` that the file says otherwise, or not at all; one
            that is as a :class:`ModelSpec` has it by default counts like any other.

    Attributes:
        path: See above.
        read_as: See above.

    Raises:
        ConfigurationError: The file is missing or lacks a shape; the message names it.
    """

    leaves_open: ClassVar[bool] = True

    path: str
    read_as: str = ""

    def __init__(self, *, path: str, read_as: str = "", **given: Any) -> None:
        self.path = path
        self.read_as = read_as
        read = read_config(user_path(path, "model.path"), given.keys(), read_as)
        super().__init__(**{**read, **given})
