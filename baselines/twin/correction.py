"""The twin's online correction: two factors that follow what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from envs.fields import Checked
from envs.quantities import Gain, Seconds
from envs.simulator.step_layout import STEP_MODEL

_SURPRISE = 0.5
"""Largest logarithm of a ratio that one interval is believed."""
_LARGEST = math.log(4.0)


@dataclass(kw_only=True)
class CorrectionConfig(Checked):
    """How fast the twin learns that its calibration is wrong.

    Attributes:
        time_gain: How much of an error in step time is mended in ``memory_s``; 0 never.
        power_gain: The same for power.
        length_gain: How much is learnt of request lengths: 1 as much as was seen, 0 nothing.
        memory_s: Time constant of step time and power in seconds.
    """

    config_key: ClassVar[str] = "controller.correction"

    time_gain: Gain = 1.0
    power_gain: Gain = 1.0
    length_gain: Gain = 1.0
    memory_s: Seconds = 20.0


class Correction:
    """Factors on the twin's step times and power, of one server.

    Args:
        config: How fast they move.

    Attributes:
        log_time: Logarithm of the factor on step times.
        log_power: The same on power.
    """

    def __init__(self, config: CorrectionConfig) -> None:
        self._config = config
        self.log_time = 0.0
        self.log_power = 0.0

    def note(
        self,
        tokens: tuple[float, float],
        power_w: tuple[float, float],
        seconds: float,
    ) -> None:
        """Learns from what was predicted and what was measured.

        Args:
            tokens: Output tokens, predicted and measured.
            power_w: Mean power, predicted and measured.
            seconds: Time that passed.
        """
        config, fraction = self._config, min(1.0, seconds / self._config.memory_s)
        if min(tokens) > 0.0:
            step = config.time_gain * fraction * _surprise(tokens[0] / tokens[1])
            self.log_time = _bounded(self.log_time + step)
        if min(power_w) > 0.0:
            step = config.power_gain * fraction * _surprise(power_w[1] / power_w[0])
            self.log_power = _bounded(self.log_power + step)

    def apply(self, nominal: Any, corrected: Any) -> None:
        """Writes the corrected step model.

        Args:
            nominal: The record that the calibration gives.
            corrected: Where the corrected one is written.
        """
        time, power = math.exp(self.log_time), math.exp(self.log_power)
        assert STEP_MODEL.names is not None
        for name in STEP_MODEL.names:
            factor = 1.0
            if name.endswith("_s"):
                factor = time
            elif name.endswith("_j"):  # spread over a longer step it is to give the same power
                factor = time * power
            elif name.endswith("_w"):
                factor = power
            corrected[name] = nominal[name] * factor


def _surprise(ratio: float) -> float:
    return min(max(math.log(ratio), -_SURPRISE), _SURPRISE)


def _bounded(value: float) -> float:
    return min(max(value, -_LARGEST), _LARGEST)
