"""What a token is worth: the energy that the server itself spends on one."""

from __future__ import annotations

import numpy as np

from baselines.twin.cost import Yardstick
from baselines.twin.plans import FloatArray


class OwnEnergy:
    """Energy that servers have spent, and the tokens that they got for it.

    To have as many tokens per joule as possible over a whole episode is to have, in every plan,
    the least energy less the tokens' worth, if a token is worth what one costs over the whole
    episode (Dinkelbach, 1967). That is not known before the end. It is estimated by what a token
    has cost so far, after a while that counts as Baseline's.

    Args:
        servers: How many servers.
        prior_s: Time in seconds for which Baseline counts, so that a plan is not made of the first
            few seconds.
    """

    def __init__(self, servers: int, prior_s: float) -> None:
        self._prior_s = prior_s
        self._energy_j, self._work = np.zeros(servers), np.zeros(servers)

    def begin(self, index: int) -> None:
        """Starts an episode of one server."""
        self._energy_j[index] = self._work[index] = 0.0

    def note(self, energy_j: FloatArray, work: FloatArray) -> None:
        """Takes an interval into account.

        Args:
            energy_j: Energy that each server drew, in joules.
            work: Its tokens, those of prompts by their weight.
        """
        self._energy_j += energy_j
        self._work += work

    def joule_per_token(self, yardstick: Yardstick) -> FloatArray:
        """Returns what a token has cost each server, shape ``(servers,)``."""
        prior_j = yardstick.power_w * self._prior_s
        prior = prior_j / yardstick.joule_per_token
        return np.asarray((self._energy_j + prior_j) / (self._work + prior))
