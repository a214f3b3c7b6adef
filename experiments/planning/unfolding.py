"""A plan as it unfolds: what was planned at each moment, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from baselines.twin.cost import ENERGY, OUTPUT
from baselines.twin.planner import Decision
from envs.errors import ConfigurationError
from envs.quantities import Seconds
from envs.serving import ServingEnv
from experiments.app.settings import RunConfig
from experiments.reporting.plot_style import BLUE, GREY, ORANGE, optional_plot, saved_plot
from experiments.runs.preparation import prepared_controller

FloatArray = NDArray[np.float64]


@dataclass(kw_only=True)
class ShowPlanConfig(RunConfig):
    """What is drawn of a run (``conf/show_plan.yaml``).

    Attributes:
        begin: Time in seconds at which the drawing begins.
        span: How many seconds are drawn.
        images: Folder that ``twin_plan.png`` is copied to; ``none`` for no folder.
    """

    begin: Seconds = 40.0
    span: Seconds = 30.0
    images: str = "none"


@runtime_checkable
class Plans(Protocol):
    """The state of a controller that follows plans."""

    decision: Decision | None


class Planned(NamedTuple):
    """One plan.

    Attributes:
        time_s: When each of its intervals ends.
        power_cap_w: Its caps.
        output_tok_s: Throughput that it expects.
        power_w: Power of all GPUs that it expects.
    """

    time_s: FloatArray
    power_cap_w: FloatArray
    output_tok_s: FloatArray
    power_w: FloatArray


def unfolded(env: ServingEnv, config: ShowPlanConfig) -> tuple[list[Planned], Planned]:
    """Runs an episode; returns the plans made in the span that is drawn, and what happened.

    Args:
        env: The environment.
        config: Scenario, controller and the span.

    Raises:
        ConfigurationError: The controller makes no plans.
    """
    options = config.options("")
    controller, _ = prepared_controller(env, config.scenario, options, lambda *_: None)
    observation, _ = env.reset(seed=config.seed)
    state, plans, happened = None, [], []
    last: Decision | None = None
    interval_s = env.interval_s
    for interval in range(round((config.begin + config.span) / interval_s)):
        action, state = controller.predict(observation, state, np.array([interval == 0]))
        if not isinstance(state, Plans):
            raise ConfigurationError(
                "controller: this one makes no plans; choose mpc or clairvoyant"
            )
        now_s = interval * interval_s
        if state.decision is not None and state.decision is not last and now_s >= config.begin:
            plans.append(_planned(state.decision, now_s, interval_s))
        last = state.decision
        observation, _, _, _, info = env.step(action)
        row = info["telemetry"]
        happened.append(
            (
                now_s + interval_s, info["knobs"].power_cap_w, row.output_tokens / interval_s,
                row.energy_gpu_j / interval_s,
            )
        )  # fmt: skip
    kept = [row for row in happened if row[0] > config.begin]
    columns = [np.array(column, dtype=np.float64) for column in zip(*kept, strict=True)]
    return plans, Planned._make(columns)


def _planned(decision: Decision, now_s: float, interval_s: float) -> Planned:
    knobs, observed = decision.knobs[0], decision.observed[0]
    return Planned(
        np.asarray(now_s + interval_s * (1 + np.arange(len(knobs))), dtype=np.float64),
        knobs[:, 0],
        observed[:, OUTPUT] / interval_s,
        observed[:, ENERGY] / interval_s,
    )


@optional_plot
def draw_plans(plans: list[Planned], happened: Planned, file: Path) -> None:
    """Draws caps, throughput and power: every plan as a thin line, what happened as a thick one.

    Args:
        plans: The plans.
        happened: What came of them.
        file: Where the PNG goes.
    """
    titles = ("Power cap, W per GPU", "Output, tokens/s", "Power of all GPUs, W")
    with saved_plot(file, 3, 1, (8.0, 6.5), sharex=True) as (_, grid):
        for axis, field, title in zip(np.ravel(grid), range(1, 4), titles, strict=True):
            for number, plan in enumerate(plans):
                color = ORANGE if number % 5 == 0 else GREY
                axis.plot(plan.time_s, plan[field], color=color, lw=0.8, alpha=0.7)
            axis.plot(happened.time_s, happened[field], color=BLUE, lw=2.0)
            axis.set_title(title)
        axis.set_xlabel("Time, s (thick: what happened; thin: each plan, every fifth one orange)")
