"""Executors: how independent runs are spread over processes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

from typing_extensions import override

from envs.fields import Checked, Range
from experiments.app.surroundings import Surroundings, Told

_WATCH_PERIOD_S = 0.5


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
        attended = _Attended(Told(function, Surroundings.here()), os.getpid())
        yield from parallel(joblib.delayed(attended)(item) for item in items)


class _Attended:
    """Calls a function in a process that ends when the one that started it is gone.

    Workers that have nobody to report to would go on for minutes, each with the engine in memory.

    Args:
        told: The function, and what holds in the process that wants the results.
        home: That process.
    """

    def __init__(self, told: Told, home: int) -> None:
        self._told = told
        self._home = home

    def __call__(self, item: Any) -> Any:
        if os.getpid() == self._home:
            return self._told.function(item)
        _end_without_parent()
        return self._told(item)


@cache
def _end_without_parent() -> None:
    """Starts a thread that ends this process once its parent has ended, however it did."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_PERIOD_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
