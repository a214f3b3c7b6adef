"""A model that is described by its Hugging Face ``config.json``, as a choice like any other."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from envs.simulator.huggingface import read_config
from envs.simulator.models import ModelSpec


@dataclass(kw_only=True)
class ModelFile(ModelSpec):
    """A shape read from a file; keys that are set beside the path take precedence.

    Attributes:
        path: The ``config.json``, or the folder that holds it.
    """

    path: str

    def __post_init__(self) -> None:
        """Reads the file.

        Raises:
            ConfigurationError: The file is missing or lacks a shape; the message names it.
        """
        values = read_config(Path(self.path).expanduser())
        for field in fields(self):
            default = field.default
            if field.default_factory is not MISSING:
                default = field.default_factory()
            if field.name in values and getattr(self, field.name) == default:
                setattr(self, field.name, values[field.name])
        super().__post_init__()
