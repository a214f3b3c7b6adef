"""What a configuration class says about its fields, beside their types.

A field says with :data:`typing.Annotated` which numbers make sense, which words there are, and of
which kind the object is that another configuration builds::

    load: Annotated[float | None, Range(above=0.0, most=100.0)] = 0.7
    unit: Annotated[str, OneOf("w", "fraction")] = "w"
    target: Annotated[Any, Part("signal")] = None

A class derived from :class:`Checked` holds its fields to that when it is built from Python; the
catalogue does the same, and names the whole key.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, ClassVar, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np

from envs.errors import ConfigurationError
from envs.nearest import nearest


@dataclass(frozen=True)
class Part:
    """The field holds an object, or objects, that a nested ``_target_`` names.

    A mapping in a field without it is data: nothing is built from it, whatever its keys.

    Attributes:
        kind: What may be built: a key of :data:`envs.catalog.kinds.BASES` or
            :data:`envs.catalog.kinds.LIBRARY`.
    """

    kind: str


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that make sense; of a list or mapping, each of them.

    Attributes:
        least: Smallest value.
        above: What every value is above.
        most: Largest value.
        below: What every value is below.
        infinite: Whether infinity stands for no limit. NaN never makes sense.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    infinite: bool = False

    def __contains__(self, value: float) -> bool:
        if math.isinf(value) and self.infinite:
            return value > 0
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        bounds = {">=": self.least, ">": self.above, "<=": self.most, "<": self.below}
        words = [f"{sign} {bound:.15g}" for sign, bound in bounds.items() if bound is not None]
        return " and ".join(words) or "a finite number"


class OneOf:
    """The words that a field may hold.

    Args:
        *options: The words.
    """

    def __init__(self, *options: str) -> None:
        self.options = options


class FieldError(ConfigurationError):
    """A value of a field makes no sense.

    Args:
        owner: Name of what the field belongs to, in messages.
        field: The field.
        problem: What is wrong.
    """

    def __init__(self, owner: str, field: str, problem: str) -> None:
        super().__init__(owner, field, problem)
        self.field = field
        self.problem = problem
        self.owner = owner

    def __str__(self) -> str:
        key = f"{self.owner}.{self.field}" if self.owner else self.field
        return f"{key}: {self.problem}"


class Checked:
    """A configuration class whose fields are held to what they say about themselves.

    A class with conditions of its own, between fields, checks them after
    ``super().__post_init__()``.
    """

    config_key: ClassVar[str] = ""
    """What messages call the class where no configuration says which key it stands under."""

    def __post_init__(self) -> None:
        values = {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]
        check_values(type(self), values, owner_name(type(self)))

    def require(self, holds: bool, field: str, rule: str) -> None:
        """Refuses the value of a field unless a condition holds.

        Args:
            holds: The condition.
            field: Name of the field.
            rule: The condition in words, after "must".

        Raises:
            FieldError: It does not hold.
        """
        if not holds:
            problem = f"must {rule}, got {_shown(getattr(self, field))}"
            raise FieldError(owner_name(type(self)), field, problem)


def owner_name(cls: type[Any]) -> str:
    """Returns what messages call a class where its key is not known."""
    return str(getattr(cls, "config_key", "")) or cls.__name__


def check_values(cls: type[Any], values: Mapping[str, Any], owner: str) -> None:
    """Checks the values of a class's fields.

    Args:
        cls: A dataclass.
        values: Values by field; fields that are missing are not checked.
        owner: The key that the class stands under; empty for top-level keys.

    Raises:
        FieldError: A value makes no sense; the message names key, range and value.
    """
    for name, rules in field_rules(cls).items():  # type: ignore[arg-type]  # a class can be hashed
        if name not in values:
            continue
        for place, value in _leaves(name, values[name], rules.depth):
            problem = _problem(rules, value)
            if problem is not None:
                raise FieldError(owner, place, f"must be {problem}, got {_shown(value)}")


class Rules(NamedTuple):
    """What a field's value, or each of its values, has to be.

    Attributes:
        number: ``int`` or ``float`` for a number, ``bool`` for a yes or no, ``None`` for a word.
        optional: Whether ``None`` is a value.
        ranges: All of them hold.
        options: The words; ``None`` for any.
        depth: Lists, tuples and mappings around each value.
    """

    number: type[Any] | None
    optional: bool
    ranges: tuple[Range, ...]
    options: tuple[str, ...] | None
    depth: int


@cache
def field_rules(cls: type[Any]) -> dict[str, Rules]:
    """Returns the rules of a class's fields of numbers and of given words, by field.

    What a base class says of a field holds in a subclass that changes its default.
    """
    found: dict[str, Rules] = {}
    for base in reversed(cls.__mro__):
        if not is_dataclass(base):
            continue
        hints = get_type_hints(base, include_extras=True)
        for item in fields(base):
            rules = _rules(hints[item.name])
            before = found.get(item.name)
            if rules is not None and before is not None:
                more = tuple(rule for rule in before.ranges if rule not in rules.ranges)
                options = rules.options or before.options
                rules = rules._replace(ranges=rules.ranges + more, options=options)
            if rules is not None:
                found[item.name] = rules
    return found


@cache
def field_parts(cls: type[Any]) -> dict[str, str]:
    """Returns the kind of the objects that a class's fields hold, by field."""
    hints = get_type_hints(cls, include_extras=True)
    notes = {item.name: list(_notes(hints[item.name])) for item in fields(cls)}
    return {
        name: note.kind for name, found in notes.items() for note in found if isinstance(note, Part)
    }


def _notes(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        yield from get_args(hint)[1:]


def _rules(hint: Any) -> Rules | None:
    """Returns the rules that an annotation states, or ``None`` where it states none."""
    ranges: list[Range] = []
    options: tuple[str, ...] | None = None
    optional = False
    depth = 0
    while True:
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Annotated:
            for note in arguments[1:]:
                if isinstance(note, Range):
                    ranges.append(note)
                elif isinstance(note, OneOf):
                    options = note.options
            hint = arguments[0]
        elif origin in (Union, types.UnionType):
            others = [argument for argument in arguments if argument is not type(None)]
            optional = optional or len(others) < len(arguments)
            if len(others) != 1:
                return None
            hint = others[0]
        elif origin in (list, dict, tuple):
            hint = arguments[1] if origin is dict else arguments[0]
            depth += 1
        else:
            break
    if hint in (int, float, bool):
        return Rules(hint, optional, tuple(ranges), None, depth)
    return Rules(None, optional, (), options, depth) if options is not None else None


def _leaves(place: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Yields the values within so many lists and mappings; what lies deeper is no value."""
    if depth > 0 and isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(f"{place}.{name}", item, depth - 1)
    elif depth > 0 and isinstance(value, list | tuple | np.ndarray):
        for index, item in enumerate(value):
            yield from _leaves(f"{place}[{index}]", item, depth - 1)
    else:
        yield place, value


def _problem(rules: Rules, value: Any) -> str | None:
    """Returns what a value would have to be, if it is something else."""
    if value is None and rules.optional:
        return None
    if rules.options is not None:
        word = isinstance(value, str)
        if word and value in rules.options:
            return None
        meant = nearest(value, rules.options) if word else None
        hint = f" (did you mean {meant!r}?)" if meant else ""
        return f"one of {', '.join(rules.options)}{hint}"
    if rules.number is bool:
        return None if isinstance(value, bool | np.bool_) else "true or false"
    wanted = Integral if rules.number is int else Real
    if isinstance(value, bool | np.bool_) or not isinstance(value, wanted):
        return "a whole number" if rules.number is int else "a number"
    for allowed in rules.ranges or (Range(),):
        if _as_float(value) not in allowed:
            return str(allowed)
    return None


def _as_float(value: Any) -> float:
    """Returns a number as a float; NaN, which no range has, for one that is too large."""
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _shown(value: Any) -> str:
    try:
        text = repr(value.item() if isinstance(value, np.generic) else value)
    except ValueError:  # Python writes no number of over 4300 digits
        text = f"a number of {value.bit_length()} bits"
    return text if len(text) <= 80 else f"{text[:77]}..."
