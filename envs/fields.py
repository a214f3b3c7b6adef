"""What a configuration class says about its fields, beside their types.

A field says with :data:`typing.Annotated` which numbers make sense, and of which kind the
object is that another configuration builds::

    load: Annotated[float | None, Range(above=0.0, most=100.0)] = 0.7
    target: Annotated[Any, Part("signal")] = None
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """The field holds an object, or objects, that a nested ``_target_`` names.

    A mapping in a field without it is data: nothing is built from it, whatever its keys.

    Attributes:
        kind: What may be built: a key of :data:`envs.catalog.kinds.BASES` or
            :data:`envs.catalog.kinds.LIBRARY`.
    """

    kind: str
