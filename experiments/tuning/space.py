"""What of a controller is searched: one file in ``conf/search`` for each controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from envs.errors import ConfigurationError
from envs.fields import Checked
from envs.quantities import Number
from experiments.evaluation.choices import ACTION, nested

if TYPE_CHECKING:
    import optuna


@dataclass(kw_only=True)
class Parameter(Checked):
    """The values of one parameter: a range of numbers, or a list of options.

    Attributes:
        low: Lowest number.
        high: Highest number.
        log: Whether numbers are drawn evenly on a logarithmic scale.
        whole: Whether only whole numbers are drawn.
        options: The values, instead of a range.
    """

    config_key: ClassVar[str] = "search.parameters"

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    whole: bool = False
    options: list[Any] | None = None

    def __post_init__(self) -> None:
        """Checks that there is a range or a list of options, and not both.

        Raises:
            ConfigurationError: There is neither, or both, or the range is not in order.
        """
        super().__post_init__()
        if self.options is not None:
            unmixed = self.low is None and self.high is None and len(self.options) > 1
            self.require(unmixed, "options", "be two or more values, without low and high")
            return
        if self.low is None or self.high is None:
            raise ConfigurationError("search.parameters: give low and high, or options")
        self.require(self.low < self.high, "low", f"be < high ({self.high})")
        self.require(not self.log or self.low > 0, "low", "be > 0 where log is true")

    @property
    def distribution(self) -> optuna.distributions.BaseDistribution:
        """What Optuna calls these values."""
        from optuna import distributions

        if self.options is not None:
            return distributions.CategoricalDistribution(self.options)
        assert self.low is not None
        assert self.high is not None
        if self.whole:
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.log)
        return distributions.FloatDistribution(self.low, self.high, log=self.log)


@dataclass(kw_only=True)
class SearchSpace(Checked):
    """The parameters of one controller that are searched, by their keys (``feedback.kp``).

    Attributes:
        controller: The controller's name in ``conf/controller``.
        fixed: Further values by key, the same in every trial.
        action: The encoding of actions that the controller needs, such as one with clocks; ``None``
            for that of the whole tuning.
        parameters: What is searched.
    """

    config_key: ClassVar[str] = "search"

    controller: str = ""
    fixed: dict[str, Any] = field(default_factory=dict)
    action: Any = None
    parameters: dict[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that there is something to search."""
        super().__post_init__()
        self.require(bool(self.controller), "controller", "name a controller")
        self.require(len(self.parameters) > 0, "parameters", "hold at least one parameter")

    def choice(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the controller's choice with some values by key, and the space's ``action``."""
        choice = nested(self.controller, {**self.fixed, **values})
        return choice if self.action is None else {**choice, ACTION: self.action}

    def defaults(self, controller: Any) -> dict[str, Any] | None:
        """Returns a controller's own values of the parameters; ``None`` where one is out of range.

        Args:
            controller: The controller as it is built without changes.
        """
        found: dict[str, Any] = {}
        for key, parameter in self.parameters.items():
            value = controller
            for name in key.split("."):
                value = getattr(value, name)
            if parameter.options is not None:
                inside = value in parameter.options
            else:
                inside = value is not None and parameter.low <= value <= parameter.high
            if not inside:
                return None
            found[key] = value
        return found
