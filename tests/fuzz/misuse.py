"""Environments that are used in any order: what is no use is refused, the rest gives numbers."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from envs.cluster.factory import make_cluster
from envs.errors import ConfigurationError, PalsError
from envs.factory import make_simulated, make_simulated_vector

MAKERS: dict[str, Callable[[], Any]] = {
    "single": lambda: make_simulated(duration_s=3.0),
    "vector": lambda: make_simulated_vector(2, duration_s=3.0),
    "cluster": lambda: make_cluster(duration_s=3.0),
}
BAD: tuple[Any, ...] = (None, "x", -1, 10**9, np.nan, [], {}, [1e300], np.arange(7), b"", True)
USES = (
    "reset", "step", "step", "bad", "close", "copy", "pickle", "thread", "threads", "fork", "seed",
)  # fmt: skip
LONGEST_S = 300.0


def misuse(case: Mapping[str, Any]) -> str:
    """Does to an environment what a case lists; returns what came of it that is nonsense."""
    used = _Used(MAKERS[case["env"]](), can_fork=case["env"] != "vector")
    refused = 0
    for use, number in case["uses"]:
        try:
            getattr(used, use)(number)
        except (PalsError, gymnasium.error.Error) as error:
            refused += 1
            if not str(error).strip():
                raise RuntimeError("an error without words") from error
        if used.problem:
            return f"{use}: {used.problem}"
    if refused:
        raise ConfigurationError(f"{refused} uses were refused")
    return ""


class _Used:
    """An environment, and what was seen of it that is no number."""

    def __init__(self, env: Any, *, can_fork: bool) -> None:
        self.env = env
        self.problem = ""
        self._can_fork = can_fork  # GNU OpenMP ends the child of a process that used it
        env.action_space.seed(0)

    def reset(self, number: int) -> None:
        self._look(self.env.reset(seed=number)[0])

    def seed(self, number: int) -> None:
        self._look(self.env.reset(seed=-number)[0])  # negative seeds are none

    def step(self, number: int) -> None:
        seen, reward, *_ = self.env.step(self.env.action_space.sample())
        self._look(seen)
        self._look(reward)

    def bad(self, number: int) -> None:
        self._look(self.env.step(BAD[number % len(BAD)])[0])

    def close(self, number: int) -> None:
        self.env.close()

    def copy(self, number: int) -> None:
        self.env = copy.deepcopy(self.env)

    def pickle(self, number: int) -> None:
        self.env = pickle.loads(pickle.dumps(self.env))

    def thread(self, number: int) -> None:
        self._in_threads(1)

    def threads(self, number: int) -> None:
        self._in_threads(2 + number % 2)

    def _in_threads(self, count: int) -> None:
        errors: list[BaseException] = []

        def run() -> None:
            try:
                self.step(0)
            except BaseException as error:
                errors.append(error)

        started = [threading.Thread(target=run, daemon=True) for _ in range(count)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join(LONGEST_S)
            if thread.is_alive():
                self.problem = "a thread does not end"
        if errors:
            raise errors[0]

    def fork(self, number: int) -> None:
        if not self._can_fork:
            return
        child = os.fork()
        if child == 0:
            try:
                self.step(0)
            except (PalsError, gymnasium.error.Error):
                os._exit(0)
            except BaseException:
                os._exit(1)
            os._exit(1 if self.problem else 0)
        until = time.monotonic() + LONGEST_S
        while time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                if status:
                    self.problem = f"a forked child ended with {status}"
                return
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.problem = "a forked child does not end"

    def _look(self, seen: Any) -> None:
        values = seen.values() if isinstance(seen, Mapping) else [seen]
        if not all(np.isfinite(np.asarray(value, dtype=float)).all() for value in values):
            self.problem = f"{seen}"
