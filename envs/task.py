"""One server, its objective, and all that follows from the two before the server runs."""

from __future__ import annotations

import numbers

from envs.actions.base import ActionEncoding
from envs.arguments import expect
from envs.context import ControlContext
from envs.episode import EpisodeContext
from envs.errors import ConfigurationError
from envs.objectives.objective import Objective
from envs.objectives.schedule import Planner
from envs.observations import ObservationLayout
from envs.system import RatedServer


class ControlTask:
    """All that controlling, observing and evaluating one server needs, for one and for many.

    Args:
        server: The server; only facts that are known before it runs are used.
        objective: What is demanded.
        encoding: How actions become knobs; it is bound to the server.
        interval_s: Length of a control interval in seconds.
        horizon_s: Time over which the objective's signals are laid out; later they repeat.
        power_caps_w: Power caps of the grid when the encoding names none.

    Attributes:
        context: What a controller knows about the server.
        setting: What evaluating and observing needs.
        planner: Makes the conditions of episodes.
        intervals: Control intervals until the conditions repeat.

    Raises:
        ConfigurationError: The interval is not positive, or longer than the horizon; or the
            encoding has no level within the server's limits.
    """

    def __init__(
        self,
        server: RatedServer,
        objective: Objective,
        encoding: ActionEncoding,
        *,
        interval_s: float,
        horizon_s: float,
        power_caps_w: list[float],
    ) -> None:
        expect("objective", objective, Objective)
        expect("encoding", encoding, ActionEncoding)
        for name, value in (("interval_s", interval_s), ("horizon_s", horizon_s)):
            expect(name, value, numbers.Real)
        if not interval_s > 0:
            raise ConfigurationError(f"interval: must be > 0 s, got {interval_s}")
        if not horizon_s >= interval_s:
            raise ConfigurationError(
                f"duration: {horizon_s} s is shorter than one interval ({interval_s} s)"
            )
        encoding.bind(server.knob_limits, power_caps_w)
        layout = ObservationLayout.for_system(server)
        self.context = ControlContext(
            layout=layout,
            encoding=encoding,
            limits=server.knob_limits,
            interval_s=interval_s,
            num_gpus=server.num_gpus,
            capacity_tok_s=server.capacity_tok_s,
            offered_tok_s=server.offered_tok_s,
            system_power=server.system_power,
            power_scope=objective.power_scope,
            qos=objective.qos,
        )
        self.setting = EpisodeContext(
            layout=layout,
            objective=objective,
            limits=server.knob_limits,
            system_power=server.system_power,
            capacity_tok_s=server.capacity_tok_s,
            rated_power_w=server.rated_power_w,
        )
        self.intervals = max(1, round(horizon_s / interval_s))
        self.planner = Planner(objective, server, self.intervals, interval_s)
