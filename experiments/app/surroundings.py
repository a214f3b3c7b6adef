"""What a process that works for another has to know of it: variables of this project, and paths.

Workers are used again by later work: by themselves they keep what was so when they began.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Self

_OWN = "PALS_"


@dataclass(frozen=True)
class Surroundings:
    """What decides which code and which files a name stands for.

    Attributes:
        variables: This project's environment variables: the packages that are allowed, folders.
        path: Where modules are looked for.
    """

    variables: dict[str, str]
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Self:
        """Returns those of this process, as they are now."""
        return cls(_variables(), tuple(sys.path))

    def take_over(self) -> None:
        """Makes them this process's own."""
        if self == Surroundings.here():
            return
        for name in _variables().keys() - self.variables.keys():
            del os.environ[name]
        os.environ.update(self.variables)
        sys.path[:] = self.path
        importlib.invalidate_caches()


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_OWN)}
