"""One controller's study in Optuna: what was tried, kept in a file, and what to try next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from envs.errors import ConfigurationError
from experiments.tuning.space import SearchSpace

if TYPE_CHECKING:
    import optuna

Evaluate = Callable[[dict[str, Any]], tuple[float, float]]
"""Efficiency and violations of a controller's choice."""
_KEY = "conditions"


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
    """A study that goes on where it stopped.

    Each trial's draws depend on the seed and on the trials before it alone, so that a study that
    was stopped and resumed equals one that was not.

    Args:
        file: The SQLite file.
        space: What is searched.
        conditions: Hash of what else the trials depend on.
        seed: Seed of the search.
        startup: Trials drawn at random before the search begins.

    Raises:
        ConfigurationError: The file holds trials under other conditions.
    """

    def __init__(
        self, file: Path, space: SearchSpace, conditions: str, seed: int, startup: int
    ) -> None:
        import optuna

        self._space, self._seed, self._startup = space, seed, startup
        with _quiet():
            self._study = optuna.create_study(
                storage=f"sqlite:///{file}",
                study_name=space.controller,
                directions=["maximize", "minimize"],
                load_if_exists=True,
            )
        kept = self._study.user_attrs.get(_KEY)
        if kept is not None and kept != conditions:
            raise ConfigurationError(
                f"{file}: its trials were made with other scenarios, another search space or other "
                "code; name another folder with hydra.run.dir, or remove the file"
            )
        self._study.set_user_attr(_KEY, conditions)
        self._drop_unfinished()

    @property
    def done(self) -> list[Tried]:
        """All finished trials, in their order."""
        return [
            Tried(dict(trial.user_attrs["values"]), *trial.values) for trial in self._finished()
        ]

    def run(self, count: int, first: Mapping[str, Any] | None, evaluate: Evaluate) -> None:
        """Tries until there are that many trials.

        Args:
            count: Number of trials, those of earlier runs included.
            first: Values of the first trial; ``None`` draws them.
            evaluate: Called with each choice of the controller.
        """
        import optuna

        done = len(self._finished())
        if done == 0 and first is not None:
            self._study.enqueue_trial(dict(first), skip_if_exists=True)
        for number in range(done, count):
            with _quiet():
                self._study.sampler = optuna.samplers.TPESampler(
                    n_startup_trials=self._startup, multivariate=True, seed=self._seed + number
                )
                trial = self._study.ask()
                values = {
                    key: parameter.suggest(trial, key)
                    for key, parameter in self._space.parameters.items()
                }
            trial.set_user_attr("values", values)
            found = evaluate(self._space.choice(values))
            self._study.tell(trial, found)

    def _finished(self) -> list[optuna.trial.FrozenTrial]:
        from optuna.trial import TrialState

        return self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def _drop_unfinished(self) -> None:
        """Gives up the trial that was running when an earlier run was killed."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)


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
