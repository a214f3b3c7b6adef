"""What teaching an agent is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from agents.bundle_facts import WIDEST
from envs.fields import Range
from envs.quantities import Gain, Interval, Positive, Processes, Seconds, Seed, Seeds
from envs.scenario import described
from experiments.app.settings import Debug


@dataclass(kw_only=True)
class ImitateConfig:
    """What teaching an agent is made of (``conf/imitate.yaml``).

    Attributes:
        seed: Seed of every random draw.
        rounds: Rounds; in each one every server runs an episode.
        duration: Length of an episode in seconds.
        interval: Time between two decisions in seconds.
        resume: Folder of a teaching that was ended before its time; its configuration is used.
        at_once: Servers that the teacher looks at in each interval.
        lowered: Batch limits below the highest that plans may begin with.
        clocks: How many of the highest clock limits plans try where the clock is a knob.
        first_s: Length of a plan's first phase in seconds.
        horizon_s: Length of a plan in seconds.
        slo_price: Price of a request past an SLO that is demanded, in Baseline's energy for a
            request; ``cost.late_price`` is that of one past the patience where none is.
        price_step: How far the logarithm of a limit's price moves in a round in which its
            servers violate twice as often as they are asked to.
        server_step: The same for each server's own factor on the prices. A limit is to hold on
            every server; but plans are tried as if they were followed to their end, and where a
            shortfall can still be made up for they expect violations that never come.
        most_factor: Highest factor of a server; the lowest is one over it.
        lowest_price: Lowest price of a violation.
        highest_price: Highest one; some violations no action can avoid.
        evaluate_seeds: Episodes per held-out scenario of the evaluation at the end.
        evaluate_duration: Length of its episodes in seconds.
        changes_per_min: Knob changes a minute that the student has in an episode, as
            ``controller.changes_per_min``; ``None`` for no bound.
        critic: Widths of the critic's layers where the recipe has one list for both networks.
            Teaching leaves the critic as it was drawn: it is for trainings that begin with the
            agent, and makes its bundle large.
        threads: Torch's threads.
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        agent: The recipe whose network, action, shield and number of servers are used.
        mixture: Scenarios to learn on.
        suite: Held-out scenarios to evaluate on.
        reward: Only noted in the bundle.
        asked: Violation limits and switch prices that it is taught for; the prices are those of
            the first round.
        cost: Prices of plans; those of violations and switching come from ``asked``.
        study: How the student learns.
        debug: What is shown of an error.
        experiment: Name of a choice that changes several keys at once; ``None`` for none.
    """

    noun: ClassVar[str] = "teaching"

    seed: Seed = 0
    rounds: Annotated[int, Range(least=1, most=10_000)] = 8
    duration: Seconds = 200.0
    interval: Interval = 0.5
    resume: str | None = None
    at_once: Annotated[int, Range(least=1, most=100_000)] = 16
    lowered: Annotated[int, Range(least=0, most=64)] = 3
    clocks: Annotated[int, Range(least=2, most=1_000)] = 8
    first_s: Seconds = 1.5
    horizon_s: Seconds = 10.0
    slo_price: Gain = 16.0
    price_step: Gain = 0.3
    server_step: Gain = 0.5
    most_factor: Annotated[float, Range(least=1.0, most=1e3)] = 30.0
    lowest_price: Positive = 0.05
    highest_price: Positive = 12.0
    evaluate_seeds: Seeds = 2
    evaluate_duration: Seconds = 240.0
    changes_per_min: Positive | None = 50.0
    critic: list[Annotated[int, Range(least=1, most=WIDEST)]] = field(default_factory=lambda: [64])
    threads: Processes = 1
    allow_packages: list[str] = field(default_factory=list)
    agent: Any = None
    mixture: Any = None
    suite: Any = None
    reward: Any = None
    asked: Any = None
    cost: Any = None
    study: Any = None
    debug: Debug = field(default_factory=Debug)
    experiment: Any = None

    def record(self) -> dict[str, Any]:
        """Returns the configuration as plain values: what ``config.yaml`` holds."""
        record: dict[str, Any] = described("imitate", self)
        return record
