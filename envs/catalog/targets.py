"""Which classes a configuration may have built.

A configuration is data, and often another user's. What it names is therefore imported from this
project's packages and those that the user has allowed, is a dataclass that the named module itself
defines, and derives from the base type of what is wanted. No function is ever called by name.
"""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import is_dataclass
from typing import Any

from envs.catalog.kinds import BASES, LIBRARY
from envs.errors import ConfigurationError
from envs.extras import missing_extra

PACKAGES_VARIABLE = "PALS_ALLOW_PACKAGES"
OWN_PACKAGES = frozenset({"envs", "baselines", "agents", "experiments"})
_PATH = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)


def allow_package(name: str) -> None:
    """Lets configurations name classes of the top-level package ``name``.

    Its code runs when it is imported, so this is for a program or its command line to call, never
    for a file that is read. The names are kept in the environment variable
    ``PALS_ALLOW_PACKAGES``, separated by commas: processes started from here inherit them.
    """
    os.environ[PACKAGES_VARIABLE] = ",".join(sorted(allowed_packages() | {name}))


def allowed_packages() -> frozenset[str]:
    """Returns the packages that a user has allowed."""
    named = os.environ.get(PACKAGES_VARIABLE, "").split(",")
    return frozenset(name.strip() for name in named if name.strip())


def configuration_class(target: str) -> type[Any]:
    """Imports a dataclass of an allowed package.

    Raises:
        ConfigurationError: The path is outside the allowed packages, or is not that of a
            dataclass.
    """
    if not _PATH.fullmatch(target):
        raise ConfigurationError(f"_target_: {target!r} is not the import path of a public class")
    package = target.partition(".")[0]
    if package not in OWN_PACKAGES | allowed_packages():
        raise ConfigurationError(
            f"_target_: {target!r} is outside the allowed packages "
            f"({', '.join(sorted(OWN_PACKAGES | allowed_packages()))}); allow yours with "
            f"allow_packages=[{package}] on the command line, {PACKAGES_VARIABLE}={package} or "
            f"envs.catalog.allow_package({package!r}), if you trust its code"
        )
    module, _, name = target.rpartition(".")
    found = _imported(module, name, target)
    if isinstance(found, type) and is_dataclass(found):
        cls: type[Any] = found
        if (cls.__module__, cls.__qualname__) == (module, name):
            return cls
    raise ConfigurationError(
        f"_target_: {target!r} cannot be built: it is not a dataclass of module {module}"
    )


def buildable(kind: str, target: str) -> type[Any]:
    """Imports the class that a configuration of a kind names.

    Args:
        kind: A key of :data:`~envs.catalog.kinds.BASES` or :data:`~envs.catalog.kinds.LIBRARY`.
        target: Import path of the class.

    Raises:
        ConfigurationError: The class is not one that this kind may name.
    """
    listed = LIBRARY.get(kind)
    if listed is not None:
        if target not in listed:
            raise ConfigurationError(
                f"_target_: {target!r} is no {kind}; there are {', '.join(sorted(listed))}"
            )
        return library_class(target)
    cls = configuration_class(target)
    bases = BASES.get(kind)
    if bases is None:
        raise ConfigurationError(f"_target_: nothing can be built for {kind!r}")
    if not any(issubclass(cls, library_class(base)) for base in bases):
        raise ConfigurationError(
            f"_target_: {target!r} is no {kind}; that would derive from {' or '.join(bases)}"
        )
    return cls


def is_of_kind(kind: str, value: Any) -> bool:
    """Returns whether an object is what a kind may hold; of a kind without a base type, any is."""
    bases = BASES.get(kind)
    if bases is None:
        return True
    own = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(value).__mro__}
    if not own.isdisjoint(bases):  # most objects: nothing has to be imported for them
        return True
    return any(isinstance(value, library_class(base)) for base in bases)


def library_class(path: str) -> type[Any]:
    """Imports a class whose path this project's own code wrote down, never a configuration."""
    module, _, name = path.rpartition(".")
    found: type[Any] = _imported(module, name, path)
    return found


def locate(path: str) -> Any:
    """Imports what a class of ours names in its code, such as the factory of a server's kind.

    Raises:
        ConfigurationError: The path does not exist, or its package is not allowed.
    """
    if path.partition(".")[0] not in OWN_PACKAGES | allowed_packages():
        raise ConfigurationError(f"{path!r} is outside the allowed packages")
    module, _, name = path.rpartition(".")
    return _imported(module, name, path)


def _imported(module: str, name: str, path: str) -> Any:
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a module raises while it is imported
        extra = missing_extra(error) if isinstance(error, ImportError) else None
        raise ConfigurationError(f"_target_: cannot import {path!r}: {extra or error}") from error
    if name not in vars(found):
        raise ConfigurationError(f"_target_: cannot import {path!r}: no {name!r} in {module}")
    return vars(found)[name]
