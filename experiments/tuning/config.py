"""What a tuning is made of (``conf/tune.yaml``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from envs import catalog
from envs.errors import ConfigurationError
from envs.fields import Range
from envs.quantities import Positive, Seconds, Seeds
from experiments.app.settings import RunConfig
from experiments.evaluation.suites import NO_EFFECT, Suite
from experiments.tuning.space import SearchSpace


@dataclass(kw_only=True)
class TuneConfig(RunConfig):
    """What a tuning is made of (``conf/tune.yaml``).

    Attributes:
        controllers: Names in ``conf/search`` of the controllers to tune.
        hours: Simulated hours that each controller may use, an agent's training included.
        points: Most points of a front that are evaluated again.
        startup: Trials drawn at random before the search begins.
        suite: Scenarios to tune on; ``duration`` is the length of an episode.
        seeds: Episodes per scenario of a trial.
        test: Whether the fronts are evaluated on the test suite; the benchmark does so, too.
        test_suite: Scenarios to evaluate the fronts on.
        test_seeds: Episodes per scenario of the evaluation.
        test_duration: Length of the evaluation's episodes in seconds.
        executor: How controllers are spread over processes.
    """

    no_effect: ClassVar[Mapping[str, str]] = NO_EFFECT

    controllers: list[str] = field(default_factory=list)
    hours: Positive = 1200.0
    points: Annotated[int, Range(least=2, most=100)] = 8
    startup: Annotated[int, Range(least=1, most=10_000)] = 16
    suite: Any = None
    seeds: Seeds = 2
    test: bool = True
    test_suite: Any = None
    test_seeds: Seeds = 4
    test_duration: Seconds = 600.0
    executor: Any = None

    def spaces(self) -> dict[str, SearchSpace]:
        """Returns the search space of each controller.

        Raises:
            ConfigurationError: There is no controller, one has no search space, or the suites
                share seeds.
        """
        if not self.controllers:
            raise ConfigurationError(
                f"controllers: name some of {', '.join(catalog.names('search'))}"
            )
        first, second = (self.built_suite(key) for key in ("suite", "test_suite"))
        if abs(first.seed - second.seed) < max(self.seeds, self.test_seeds):
            raise ConfigurationError(
                f"test_suite.seed: {second.seed} gives episodes that were tuned on (suite.seed is "
                f"{first.seed})"
            )
        return {str(name): catalog.build("search", str(name)) for name in self.controllers}

    def built_suite(self, key: str) -> Suite:
        """Returns one of the two suites."""
        suite: Suite = catalog.build("suite", getattr(self, key))
        return suite

    @property
    def trial_hours(self) -> float:
        """Simulated hours of one trial."""
        return len(self.built_suite("suite").scenarios) * self.seeds * self.duration / 3600.0
