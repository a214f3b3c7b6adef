"""Executors: how independent runs are spread over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from envs.errors import ConfigurationError


@runtime_checkable
class Executor(Protocol):
    """Calls a function on many items; chosen in ``conf/executor``."""

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yields ``function(item)`` for every item, in the order in which they are done."""


@dataclass(kw_only=True)
class Joblib:
    """Processes on this machine, with joblib.

    Attributes:
        jobs: Processes at a time; -1 for one per CPU core.
        backend: Joblib's backend.
    """

    jobs: int = -1
    backend: str = "loky"

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: The number of jobs is 0.
        """
        if self.jobs == 0:
            raise ConfigurationError("executor.jobs: must be a number of processes or -1, got 0")

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """See :meth:`Executor.map`."""
        import joblib

        parallel = joblib.Parallel(
            n_jobs=self.jobs, backend=self.backend, return_as="generator_unordered"
        )
        yield from parallel(joblib.delayed(function)(item) for item in items)
