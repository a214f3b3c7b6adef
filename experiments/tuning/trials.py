"""What was tried of one controller, kept in a file, and what to try next, which Optuna says."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from envs.errors import ConfigurationError, PalsError
from envs.safe_files import read_regular
from envs.strict_json import read_json
from experiments.evaluation.metrics import write_json
from experiments.tuning.space import SearchSpace

Evaluate = Callable[[dict[str, Any]], tuple[float, float]]
"""Efficiency and violations of a controller's choice."""
_SUM = "sha256"
_MOST_BYTES = 256 << 20


class Tried(NamedTuple):
    """One trial.

    Attributes:
        values: Value of each parameter by key.
        efficiency: Mean tokens per joule over Baseline's.
        violations: Mean rate of violations within the power budget.
    """

    values: dict[str, Any]
    efficiency: float
    violations: float


class Trials:
    """A search that goes on where it stopped.

    Each trial's draws depend on the seed and on the trials before it alone, so that a search that
    was stopped and resumed equals one that was not.

    Args:
        file: The JSON file that keeps the trials.
        space: What is searched.
        conditions: Hash of what else the trials depend on.
        seed: Seed of the search.
        startup: Trials drawn at random before the search begins.

    Attributes:
        done: All finished trials, in their order.

    Raises:
        ConfigurationError: The file is not as it was written, or holds trials under other
            conditions.
    """

    def __init__(
        self, file: Path, space: SearchSpace, conditions: str, seed: int, startup: int
    ) -> None:
        import optuna

        self._file, self._conditions = file, conditions
        self._space, self._seed, self._startup = space, seed, startup
        self.done: list[Tried] = _read(file, conditions)
        self._distributions = {key: own.distribution for key, own in space.parameters.items()}
        with _quiet():
            self._study = optuna.create_study(directions=["maximize", "minimize"])
            for one in self.done:
                self._study.add_trial(
                    optuna.trial.create_trial(
                        params=one.values,
                        distributions=self._distributions,
                        values=[one.efficiency, one.violations],
                    )
                )

    def run(self, count: int, first: Mapping[str, Any] | None, evaluate: Evaluate) -> None:
        """Tries until there are that many trials.

        Args:
            count: Number of trials, those of earlier runs included.
            first: Values of the first trial; ``None`` draws them.
            evaluate: Called with each choice of the controller.

        Raises:
            PalsError: A trial's outcome is no number.
        """
        import optuna

        if not self.done and first is not None:
            self._study.enqueue_trial(dict(first), skip_if_exists=True)
        for number in range(len(self.done), count):
            with _quiet():
                self._study.sampler = optuna.samplers.TPESampler(
                    n_startup_trials=self._startup, multivariate=True, seed=self._seed + number
                )
                trial = self._study.ask(self._distributions)
                values = trial.params
            tried = Tried(values, *evaluate(self._space.choice(values)))
            if not (math.isfinite(tried.efficiency) and math.isfinite(tried.violations)):
                raise PalsError(
                    "violations cannot be counted: no episode has a target and lasts beyond the "
                    "warm-up (objective.qos.warmup_s); make duration longer"
                )
            self._study.tell(trial, tried[1:])
            self.done.append(tried)
            self._write()

    def _write(self) -> None:
        content = _content(self._conditions, self.done)
        write_json(self._file, {**content, _SUM: _sum(content)})


def _content(conditions: str, done: Sequence[Tried]) -> dict[str, Any]:
    return {"conditions": conditions, "trials": [one._asdict() for one in done]}


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(file: Path, conditions: str) -> list[Tried]:
    """Returns the trials of an earlier run; none where there is no file."""
    if not (file.exists() or file.is_symlink()):
        return []
    otherwise = "name another folder with hydra.run.dir, or remove the file"
    try:
        kept: Any = read_json(read_regular(file, _MOST_BYTES))
        written = kept.pop(_SUM)
        whole = written == _sum(kept)
        done = [Tried(**one) for one in kept["trials"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"{file}: holds no trials ({error!r}); {otherwise}") from error
    if not whole:
        raise ConfigurationError(f"{file}: was edited or damaged; {otherwise}")
    if kept["conditions"] != conditions:
        raise ConfigurationError(
            f"{file}: its trials were made with other scenarios, another search space or other "
            f"code; {otherwise}"
        )
    return done


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Optuna from reporting every trial, and from warning that parts of it are new."""
    import warnings

    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
