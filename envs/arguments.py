"""Arguments of a wrong class, refused in words where they are given."""

from __future__ import annotations

import numbers
from typing import Any

from envs.errors import ConfigurationError


def expect(name: str, value: Any, *classes: type[Any], optional: bool = False) -> None:
    """Refuses an argument that is of none of some classes.

    Args:
        name: Name of the argument, or its key.
        value: What was given.
        *classes: The classes that it may be of.
        optional: Whether it may be ``None``.

    Raises:
        ConfigurationError: It is of none; the message names argument, classes and what was given.
    """
    if isinstance(value, classes) or (optional and value is None):
        return
    raise unexpected(name, f"an object of {' or '.join(map(class_path, classes))}", value)


def expect_whole(name: str, value: Any, least: int) -> None:
    """Refuses an argument that is no whole number, or below ``least``.

    Raises:
        ConfigurationError: It is not; the message names the argument.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (whole and value >= least):
        raise ConfigurationError(f"{name}: must be a whole number >= {least}, got {told(value)}")


def unexpected(name: str, wanted: str, value: Any) -> ConfigurationError:
    """Returns the error that an argument is of another class than is wanted."""
    return ConfigurationError(f"{name}: must be {wanted}, got {told(value)}")


def class_path(cls: type[Any]) -> str:
    """Returns where a class is imported from; that of a plain value by its name alone."""
    name = cls.__qualname__
    return name if cls.__module__ == "builtins" else f"{cls.__module__}.{name}"


def told(value: Any) -> str:
    """Returns a value for a message: a plain one as it is, of an object its class."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:77]}..."
    if isinstance(value, type):
        return f"the class {value.__qualname__} itself"
    return f"an object of {class_path(type(value))}"
