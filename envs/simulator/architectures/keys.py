"""Reads values of a ``config.json`` by name, checks them, and remembers which were read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from envs.errors import ConfigurationError

MOST = 2**40
"""No dimension of a model is larger; what is, is a mistake."""
MOST_LAYERS = 10_000

NEEDED = frozenset(
    {
        "vocab_size",
        "num_attention_heads",
        "intermediate_size",
        "num_hidden_layers",
        "hidden_size",
        "num_experts",
    }
)
"""Keys that a whole file always states. One that is nested in a file of a model with several
parts leaves out whatever its configuration class assumes, so that defaults count for them too."""


class Keys:
    """The values of one configuration under the names that this package uses.

    Args:
        values: Contents of the file, or of the part that describes the language model.
        renames: Own name of a value by the file's name for it.
        defaults: What the architecture's configuration class assumes where the file is silent.
        nested: Whether the values were one part of a larger file.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        renames: Mapping[str, str],
        defaults: Mapping[str, Any],
        *,
        nested: bool = False,
    ) -> None:
        self._names = {ours: theirs for theirs, ours in renames.items() if theirs in values}
        self._values = dict(values)
        for theirs, ours in renames.items():
            if theirs in values:
                self._values[ours] = values[theirs]
        needed = frozenset() if nested else NEEDED
        self._defaults = {key: value for key, value in defaults.items() if key not in needed}
        self.read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        self._note(key)
        return self._values.get(key, self._defaults.get(key)) is not None

    def get(self, key: str) -> Any:
        """Returns a value as it stands, or the architecture's default, or ``None``."""
        self._note(key)
        return self._values[key] if key in self._values else self._defaults.get(key)

    def whole(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """Returns a whole number.

        Args:
            key: Name of the value.
            default: What it is where neither the file nor the architecture says.
            least: Smallest value that makes sense.

        Raises:
            ConfigurationError: It is missing, or no whole number in range.
        """
        value = self.get(key)
        if value is None:
            value = default
        if value is None:
            raise ConfigurationError(f"model: the config.json lacks {self._name(key)}")
        return self._checked(key, value, least)

    def each(self, key: str, index: int, default: int | None = None, *, least: int = 1) -> int:
        """Returns a whole number that a list may give for each layer.

        Args:
            key: Name of the value.
            index: Layer.
            default: See :meth:`whole`.
            least: See :meth:`whole`.

        Raises:
            ConfigurationError: See :meth:`whole`; or the list is too short.
        """
        value = self.get(key)
        if not isinstance(value, list):
            return self.whole(key, default, least=least)
        if index >= len(value):
            raise self.problem(key, f"has {len(value)} values, layer {index} has none")
        return self._checked(f"{key}[{index}]", value[index], least)

    def flag(self, key: str, default: bool = False) -> bool:
        """Returns a truth value.

        Raises:
            ConfigurationError: It is neither true nor false.
        """
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool) and value not in (0, 1):
            raise self.problem(key, f"must be true or false, got {shown(value)}")
        return bool(value)

    def items(self, key: str) -> list[Any] | None:
        """Returns a list, or ``None`` where there is none.

        Raises:
            ConfigurationError: The value is something else.
        """
        value = self.get(key)
        if value is None or isinstance(value, list):
            return value
        raise self.problem(key, f"must be a list, got {shown(value)}")

    def layer_numbers(self, key: str) -> list[int] | None:
        """Returns a list of layers, counted from 0, or ``None`` where there is none.

        Raises:
            ConfigurationError: The value is something else.
        """
        values = self.items(key)
        for place, value in enumerate(values or []):
            self._checked(f"{key}[{place}]", value, 0)
        return values

    def kind(self, key: str, index: int) -> str | None:
        """Returns the word that a list has for a layer, or ``None`` where there is no list.

        Raises:
            ConfigurationError: The value is no list of words, one for each layer.
        """
        values = self.items(key)
        if values is None:
            return None
        if index >= len(values) or not isinstance(values[index], str):
            raise self.problem(key, f"must name a kind for every layer; layer {index} has none")
        return str(values[index])

    def part(self, key: str) -> Keys:
        """Returns the values of a mapping inside this one; they keep their own names.

        Raises:
            ConfigurationError: The value is no mapping.
        """
        value = self.get(key)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.problem(key, f"must be a mapping, got {shown(value)}")
        return Keys(value, {}, {}, nested=True)

    @property
    def layers(self) -> int:
        """How many layers there are.

        Raises:
            ConfigurationError: The file does not say, or says an impossible number.
        """
        layers = self.whole("num_hidden_layers")
        if layers > MOST_LAYERS:
            raise self.problem("num_hidden_layers", f"must be at most {MOST_LAYERS}, got {layers}")
        return layers

    def problem(self, key: str, text: str) -> ConfigurationError:
        """Returns the error that names a key of the file."""
        return ConfigurationError(f"model: {self._name(key)} of the config.json {text}")

    def unread(self) -> Iterator[str]:
        """Yields the file's keys that say something and were not read."""
        for key, value in self._values.items():
            if key not in self.read and value not in (None, False, 0, [], {}):
                yield key

    def _note(self, key: str) -> None:
        self.read.update((key, self._names.get(key, key)))

    def _name(self, key: str) -> str:
        return self._names.get(key, key)

    def _checked(self, key: str, value: Any, least: int) -> int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole:
            raise self.problem(key, f"must be a whole number, got {shown(value)}")
        if not least <= value <= MOST:
            raise self.problem(key, f"must be {least} to {MOST:.0e}, got {shown(value)}")
        return int(value)


def shown(value: Any) -> str:
    """Returns a value for a message, cut where it is long."""
    if isinstance(value, Sequence | Mapping) and len(value) > 20:
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole(value: Any) -> TypeGuard[int]:
    """Returns whether a value is a whole number that a model's dimension can be.

    Args:
        value: What a file holds, before it is read by name.
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST
