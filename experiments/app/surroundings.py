"""What a process that works for another has to know of it: variables of this project, and paths.

Workers are used again by later work: by themselves they keep what was so when they began. Those on
other machines inherit nothing, and have folders of their own.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from envs import catalog

_OWN = "PALS_"


@dataclass(frozen=True)
class Surroundings:
    """What decides which code and which files a name stands for.

    Attributes:
        variables: This project's environment variables: the packages that are allowed, folders.
        path: Where modules are looked for; ``None`` leaves all places of the machine out, and
            ``variables`` name none.
    """

    variables: dict[str, str]
    path: tuple[str, ...] | None

    @classmethod
    def here(cls, *, places: bool = True) -> Self:
        """Returns those of this process, as they are now.

        Args:
            places: Whether what names places on this machine is among them.
        """
        if places:
            return cls(_variables(), tuple(sys.path))
        return cls({catalog.PACKAGES_VARIABLE: ",".join(sorted(catalog.allowed_packages()))}, None)

    def take_over(self) -> None:
        """Makes them this process's own; what they leave out stays as it is."""
        if self.path is None:
            os.environ.update(self.variables)
            return
        if self == Surroundings.here():
            return
        for name in _variables().keys() - self.variables.keys():
            del os.environ[name]
        os.environ.update(self.variables)
        sys.path[:] = self.path
        importlib.invalidate_caches()


@dataclass(frozen=True)
class Told:
    """Calls a function in a process that is told with each item what holds for it.

    Attributes:
        function: The function.
        surroundings: What holds.
    """

    function: Callable[[Any], Any]
    surroundings: Surroundings

    def __call__(self, item: Any) -> Any:
        """Returns the function's result."""
        self.surroundings.take_over()
        return self.function(item)


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_OWN)}
