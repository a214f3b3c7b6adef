"""Suites: named scenarios (server, workload, objective) on which controllers are compared."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import simulated_env
from envs.fields import Checked
from envs.quantities import Seed
from envs.scenario import Scenario, plain
from envs.serving import ServingEnv

PARTS = ("model", "gpu", "server", "workload", "objective")
_BUILT: dict[tuple[str, str], Any] = {}
NO_EFFECT = {
    **{
        part: f"every scenario of the suite has its own; change suite.scenarios.NAME.{part}, or "
        "compare controllers on one scenario with python -m experiments.compare"
        for part in PARTS
    },
    "env": "every scenario of the suite is one server",
    "controller": "name the controllers in controllers",
    "tracker": "runs of a suite are sent to no tracker",
}
"""Keys of a run that change nothing where a suite is run, and what does instead."""
EPISODES_OF_SUITE = {"seed": "episodes are counted up from suite.seed"}
"""The same, where nothing else is drawn."""


@dataclass(kw_only=True)
class SuiteScenario:
    """One scenario of a suite.

    Each part is a name, a mapping with ``base`` and changes, or an object that is built already.

    Attributes:
        model: Model that is served.
        gpu: GPU type.
        server: Parallelism and limits.
        workload: Arrivals and lengths.
        objective: What is demanded.
        family: Scenarios of one family are shown together.
        load_moves: Whether the demand moves over time beyond Poisson noise.
        batch_matters: Whether another than the highest batch limit can be best.
    """

    model: Any = Scenario.model
    gpu: Any = Scenario.gpu
    server: Any = Scenario.server
    workload: Any = Scenario.workload
    objective: Any = Scenario.objective
    family: str = "efficiency"
    load_moves: bool = False
    batch_matters: bool = False

    @property
    def parts(self) -> dict[str, Any]:
        """Its choices by group, as plain values or built objects."""
        return {name: plain_choice(getattr(self, name)) for name in PARTS}

    @property
    def built(self) -> dict[str, Any]:
        """Its parts and the GPU's calibration, built; equal choices give the same object."""
        parts = {name: built(name, choice) for name, choice in self.parts.items()}
        return {**parts, "calibration": built("calibration", parts["gpu"].calibration)}

    def scenario(self, shared: Scenario) -> Scenario:
        """Returns a scenario with this one's parts; all else is as in ``shared``."""
        return replace(shared, **self.parts)

    def make(self, *, action: Any, reward: Any, interval_s: float, duration_s: float) -> ServingEnv:
        """Builds the simulated environment.

        Args:
            action: Action encoding.
            reward: Reward.
            interval_s: Time between two decisions in seconds.
            duration_s: Time in seconds over which the objective's signals are laid out.

        Raises:
            ConfigurationError: A choice is wrong; the message names it.
        """
        return simulated_env(
            Scenario(
                **self.built,
                action=copy.copy(built("action", action)),  # it is bound to one server
                reward=built("reward", reward),
                interval_s=interval_s,
                duration_s=duration_s,
            )
        )


@dataclass(kw_only=True)
class Suite(Checked):
    """Scenarios by name.

    Attributes:
        scenarios: The scenarios.
        seed: First of the seeds of its episodes; suites use ranges that do not overlap.
        only: Names of the scenarios to take; empty for all of them.
    """

    config_key: ClassVar[str] = "suite"

    scenarios: dict[str, SuiteScenario] = field(default_factory=dict)
    seed: Seed = 0
    only: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Leaves out the scenarios that :attr:`only` does not name.

        Raises:
            ConfigurationError: There is no scenario, or none of a name.
        """
        super().__post_init__()
        self.require(len(self.scenarios) > 0, "scenarios", "hold at least one scenario")
        unknown = [name for name in self.only if name not in self.scenarios]
        if unknown:
            raise ConfigurationError(
                f"suite.only: no scenario named {', '.join(unknown)}; "
                f"there are {', '.join(self.scenarios)}"
            )
        if self.only:
            self.scenarios = {name: self.scenarios[name] for name in self.only}


def plain_choice(choice: Any) -> Any:
    """Returns a choice as a name or plain mapping."""
    return plain(choice) if isinstance(choice, Mapping) else choice


def built(group: str, choice: Any) -> Any:
    """Builds a choice, or returns the object that an equal choice gave before.

    Hundreds of scenarios share a few models, GPUs and servers, and reading configuration
    takes longer than simulating them.
    """
    own = plain_choice(choice)
    if not isinstance(own, str | dict):
        return own
    key = (group, repr(own))
    if key not in _BUILT:
        _BUILT[key] = catalog.build(group, own)
    return _BUILT[key]
