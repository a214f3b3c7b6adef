"""Executors: how independent runs are spread over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

from typing_extensions import override

from envs.fields import Checked, Range


@runtime_checkable
class Executor(Protocol):
    """Calls a function on many items; chosen in ``conf/executor``."""

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yields ``function(item)`` for every item, in the order in which they are done."""


@dataclass(kw_only=True)
class Joblib(Checked, Executor):
    """Processes on this machine, with joblib.

    Attributes:
        jobs: Processes at a time; -1 for one per CPU core.
        backend: Joblib's backend.
    """

    config_key: ClassVar[str] = "executor"

    jobs: Annotated[int, Range(least=-1, most=4096)] = -1
    backend: str = "loky"

    def __post_init__(self) -> None:
        """Checks that there are processes."""
        super().__post_init__()
        self.require(self.jobs != 0, "jobs", "be a number of processes or -1")

    @override
    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        import joblib

        parallel = joblib.Parallel(
            n_jobs=self.jobs, backend=self.backend, return_as="generator_unordered"
        )
        yield from parallel(joblib.delayed(function)(item) for item in items)
