"""The PID loop that corrects the offline model's error while serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from envs.fields import Checked
from envs.quantities import FractionBelowOne, Gain


class FeedbackState(NamedTuple):
    """State of the loop.

    Attributes:
        integral: Integrated error, already times the integral gain.
        error: Error of the interval before; ``None`` at the start.
    """

    integral: float = 0.0
    error: float | None = None


@dataclass(kw_only=True)
class Feedback(Checked):
    """PID on the throughput error, as a fraction of the target (arXiv:2605.21427 §3.3).

    The paper gives neither gains nor the point where the correction enters. Here it scales
    the target that the model has to reach: ``target * (1 + correction)``. A model that
    predicts 10 % too much is thus corrected equally at every target.

    Attributes:
        kp: Proportional gain: correction per relative error.
        ki: Integral gain per second.
        kd: Derivative gain in seconds.
        limit: Largest correction in either direction, as a fraction of the target. The integral
            is held within it too, so that it cannot wind up.
        one_sided: Whether the correction may only raise the target. The literal, symmetric
            loop also lowers it while the server over-delivers, and then violates.
    """

    config_key: ClassVar[str] = "controller.feedback"

    kp: Gain = 1.0
    ki: Gain = 0.05
    kd: Gain = 0.0
    limit: FractionBelowOne = 0.3
    one_sided: bool = True

    def correct(
        self, error: float, seconds: float, state: FeedbackState, saturated: bool
    ) -> tuple[float, FeedbackState]:
        """Returns the correction for the coming interval.

        Args:
            error: ``1 - measured / target``.
            seconds: Time since the call before.
            state: What the call before returned.
            saturated: Whether the fastest knobs are in force already, so that integrating
                a shortfall further has no effect.

        Returns:
            The correction as a fraction of the target, and the next state.
        """
        lowest = 0.0 if self.one_sided else -self.limit
        integral = state.integral
        if not (saturated and error > 0):
            integral = min(self.limit, max(lowest, integral + self.ki * error * seconds))
        slope = 0.0 if state.error is None else (error - state.error) / seconds
        correction = self.kp * error + integral + self.kd * slope
        return min(self.limit, max(lowest, correction)), FeedbackState(integral, error)
