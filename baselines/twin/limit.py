"""The outer loop: the price of a violation, so that no more of them happen than are allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from envs.fields import Checked
from envs.quantities import Factor, PositiveFraction, Seconds


@dataclass(kw_only=True)
class LimitConfig(Checked):
    """How the price of a violation follows the violations that are measured.

    Attributes:
        memory_s: Time in seconds over which violations are averaged.
        response_s: Time in seconds in which the price rises by a factor of e while the rate is
            twice the limit.
        lowest: Lowest factor on the price.
        highest: Highest factor. With the default, half of Baseline's throughput can be asked for on
            top of it: enough that only its own knobs are left to a server that cannot tell how
            far it is behind.
    """

    config_key: ClassVar[str] = "controller.limit"

    memory_s: Seconds = 60.0
    response_s: Seconds = 60.0
    lowest: PositiveFraction = 0.5
    highest: Factor = 100.0


class ViolationPrice:
    """Integrates how far the measured rate is from the violation limit.

    Attributes:
        limit: Rate of violations that the operator allows; it may change at any time.

    Args:
        config: How fast.
        limit: The limit at the start.
    """

    def __init__(self, config: LimitConfig, limit: float) -> None:
        self._config, self.limit = config, limit
        self._rate = limit
        self._log = 0.0

    def note(self, violated: bool, seconds: float) -> None:
        """Learns whether an interval was in violation, as far as a server can tell."""
        config = self._config
        self._rate += min(1.0, seconds / config.memory_s) * (violated - self._rate)
        excess = (self._rate - self.limit) / max(self.limit, 0.005)
        self._log += seconds / config.response_s * min(max(excess, -1.0), 3.0)
        bounds = math.log(config.lowest), math.log(config.highest)
        self._log = min(max(self._log, bounds[0]), bounds[1])

    @property
    def factor(self) -> float:
        """Factor on the configured price."""
        return math.exp(self._log)
