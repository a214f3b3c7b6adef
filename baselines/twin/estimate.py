"""What is believed about one real server, and how observations change it."""

from __future__ import annotations

import numpy as np

from baselines.twin.arrivals import ArrivalBelief
from baselines.twin.coming import drawn_requests
from baselines.twin.correction import Correction, CorrectionConfig
from baselines.twin.ledger import Ledger
from baselines.twin.lengths import ExpectedLengths, LengthBelief
from baselines.twin.limit import LimitConfig, ViolationPrice
from envs.context import ControlContext
from envs.objectives.qos import violation_plain
from envs.observations import Observation
from envs.workloads.base import RequestChunk


class Estimate:
    """The state of one real server as it can be known from outside.

    Args:
        context: What is known about the server.
        expected: Lengths that are expected.
        samples: Samples of what cannot be known.
        correction: How fast its model is corrected.
        limit: How the price of violations is moved.
        violation_limit: Rate of violations that is allowed.
        rng: Source of the draws.

    Attributes:
        ledger: Its requests.
        prompts: Beliefs about prompt lengths.
        outputs: Beliefs about output lengths.
        arrivals: Beliefs about the arrival rate.
        correction: Factors on the model.
        price: Factor on the price of violations.
        now_s: Time since the episode began.
    """

    def __init__(
        self,
        context: ControlContext,
        expected: ExpectedLengths,
        samples: int,
        correction: CorrectionConfig,
        limit: LimitConfig,
        violation_limit: float,
        rng: np.random.Generator,
    ) -> None:
        self._context = context
        self._samples, self._rng = samples, rng
        self.prompts = LengthBelief(expected.prompt_tokens, correction.length_gain)
        self.outputs = LengthBelief(expected.output_tokens, correction.length_gain)
        self.ledger = Ledger(self.prompts, self.outputs, samples, rng)
        self.arrivals = ArrivalBelief(context.offered_tok_s / max(self.outputs.mean, 1.0))
        self.correction = Correction(correction)
        self.price = ViolationPrice(limit, violation_limit)
        self.now_s = 0.0
        self._target_tok_s = 0.0

    def follow(self, observed: Observation) -> None:
        """Takes an interval into account; see :meth:`baselines.twin.ledger.Ledger.follow`."""
        interval_s = self._context.interval_s
        self.now_s += interval_s
        self.arrivals.note(round(observed.arrivals_per_s * interval_s), interval_s)
        self.ledger.follow(observed, self.now_s, interval_s)

    def evaluate(self, observed: Observation, behind: float) -> None:
        """Moves the price of violations by what the last interval was.

        It counts as a violation when throughput was below the target and a twin of Baseline
        delivered more on the same requests. That work waits is no sign of it: where a burst or a
        power budget makes Baseline wait, too, nobody could have done better.

        Args:
            observed: What was observed over it.
            behind: Windowed throughput over that of the Baseline beside.
        """
        interval_s, qos = self._context.interval_s, self._context.qos
        if qos.evaluates(self.now_s - interval_s):
            below = violation_plain(observed.throughput_tok_s, self._target_tok_s, qos.tolerance)
            late = behind < 1.0 - qos.tolerance
            self.price.note(bool(below and late), interval_s)
        self._target_tok_s = observed.target_tok_s

    def future(self, horizon_s: float, closed_loop: bool) -> list[RequestChunk]:
        """Draws the requests to come within a horizon, for each sample; times from now."""
        return drawn_requests(
            self.arrivals,
            self.prompts,
            self.outputs,
            samples=self._samples,
            horizon_s=horizon_s,
            interval_s=self._context.interval_s,
            in_flight=len(self.ledger) if closed_loop else None,
            rng=self._rng,
        )


def single(observed: Observation, index: int) -> Observation:
    """Returns the observation of one of several servers."""
    return Observation(*(float(values[index]) for values in observed))
