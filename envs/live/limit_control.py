"""Changing a server's batch limit, in whichever way the server offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class LimitControl(ABC):
    """Reads and changes the batch limit of one instance of a server.

    Attributes:
        route: Path of the route that it goes by, for the record.
        instance: The instance that changes are meant for; ``None`` before the first reading.
        found: The limit to put back; ``None`` before the first reading.
        tells_effect: Whether the server tells when running requests keep to a new limit.
    """

    route: str
    instance: str | None
    found: int | None
    tells_effect: bool

    @property
    @abstractmethod
    def plan(self) -> dict[str, Any]:
        """What the guard needs for :meth:`release`, as JSON values, by the kind of control."""

    @abstractmethod
    def read(self) -> dict[str, Any]:
        """Returns the limits in force; changes are meant for the instance that answers.

        The keys are ``max_num_seqs``, ``ceiling_num_seqs`` (the most that the server was started
        for), ``scheduler`` and ``effect_delay_s``; what the server does not tell is ``None``.

        Raises:
            ServerError: The server does not answer, has no such route, or refuses.
        """

    @abstractmethod
    def check(self, told: dict[str, Any], mode: str) -> None:
        """Tells before control is taken that the limits cannot be controlled so.

        Args:
            told: What :meth:`read` returned.
            mode: As in :meth:`take`.

        Raises:
            ServerError: They cannot.
        """

    @abstractmethod
    def take(self, mode: str) -> None:
        """Begins to control the limits.

        Args:
            mode: How a lowered limit takes hold: ``drain`` or ``preempt``.

        Raises:
            ServerError: The server refuses, or another controller is in control.
        """

    def intend(self, max_num_seqs: int) -> None:  # noqa: B027 - a lease has no need of it
        """Says what is going to be set, so that :attr:`plan` knows it before it is."""

    @abstractmethod
    def set(self, *, max_num_seqs: int) -> dict[str, Any]:
        """Sets the batch limit; returns the limits in force afterwards.

        Raises:
            ServerReplacedError: Another instance answers; nothing was changed.
            ServerError: The server refuses.
        """

    @abstractmethod
    def renew(self, max_num_seqs: int, mode: str) -> None:
        """Stays in control, where the server wants to be told so.

        Raises:
            LimitHeldError: Another controller is in control now.
        """

    @abstractmethod
    def release(self) -> None:
        """Puts back what was found; harmless where there is nothing to put back.

        Raises:
            ServerError: The server hangs.
        """
