"""The ledger of requests: who is in the server, for how long, and how far each has come."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.twin.lengths import LengthBelief
from envs.observations import Observation


class Ledger:
    """The requests of one server, from what an observation tells about all of them together.

    Requests are admitted in the order in which they came, and those that decode get a token in
    each step; so their ages and their tokens so far follow from the counts of every interval. Which
    ones have finished does not. It is drawn: a request ends the more likely, the more of
    all lengths end where it is.

    Args:
        prompts: Beliefs about prompt lengths.
        outputs: Beliefs about output lengths.
        samples: Samples of each remaining length.
        rng: Source of the draws.

    Attributes:
        requests: One record a request, in the order in which they came: ``arrived_s``;
            ``first_s`` when it got its first token (NaN before); ``prompt`` tokens, as far as they
            can be told, and how many of them are ``computed``; ``generated`` output tokens;
            ``quantile``, where its length lies among those it may still have, one for each
            sample (it stays the same, so that plans of one moment and the next agree);
            ``reached``, the output tokens that Baseline would have of it by now, unless it had
            finished.
        decoding: How many of them decode, from the first.
        prefilling: How many after those have their prompt computed.
        pace: Tokens that each one that decoded got in the last interval; 0 where none did.
    """

    def __init__(
        self, prompts: LengthBelief, outputs: LengthBelief, samples: int, rng: np.random.Generator
    ) -> None:
        self._prompts, self._outputs = prompts, outputs
        self._rng = rng
        names = (
            "arrived_s", "first_s", "prompt", "computed", "generated", "reached",
        )  # fmt: skip
        fields: list[Any] = [(name, np.float64) for name in names]
        self._dtype = np.dtype([*fields, ("quantile", np.float64, (samples,))])
        self.requests: NDArray[Any] = np.zeros(0, dtype=self._dtype)
        self.decoding = 0
        self.prefilling = 0
        self.pace = 0.0

    def __len__(self) -> int:
        return len(self.requests)

    def follow(self, observed: Observation, now_s: float, interval_s: float) -> None:
        """Takes an interval into account.

        Args:
            observed: What was observed over it.
            now_s: When it ended.
            interval_s: Its length.
        """
        present = round(observed.running) + round(observed.waiting)
        came = max(round(observed.arrivals_per_s * interval_s), present - len(self))
        self._add(came, now_s, interval_s)
        gone = len(self) - present
        self._split(observed)
        started, before = self._decode(observed, gone, now_s, interval_s)
        self._finish(gone, started, before)
        self._settle(observed, now_s)

    def _add(self, came: int, now_s: float, interval_s: float) -> None:
        """Notes new requests, spread over the interval."""
        rng, fresh = self._rng, np.zeros(came, dtype=self._dtype)
        fresh["arrived_s"] = now_s - interval_s * (1.0 - (np.arange(came) + 0.5) / max(came, 1))
        fresh["first_s"] = np.nan
        fresh["prompt"] = self._prompts.draw(rng.random(came))
        fresh["quantile"] = rng.random(fresh["quantile"].shape)
        self.requests = np.concatenate([self.requests, fresh])

    def _split(self, observed: Observation) -> None:
        """Tells which of the running requests still compute their prompt."""
        running, waiting = round(observed.running), round(observed.waiting)
        without_first = observed.prefill_backlog_tokens / max(self._prompts.mean, 1.0)
        some = 1 if observed.prefill_backlog_tokens > 0.5 and waiting == 0 else 0
        self.prefilling = min(running, max(some, round(without_first) - waiting))
        self.decoding = running - self.prefilling

    def _decode(
        self, observed: Observation, gone: int, now_s: float, interval_s: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Gives the interval's tokens to those that decoded; returns who has, and what they had."""
        requests = self.requests
        started = np.arange(len(requests)) < self.decoding + gone
        fresh = started & np.isnan(requests["first_s"])
        latest = np.maximum(requests["arrived_s"], now_s - 0.5 * interval_s)
        requests["first_s"] = np.where(fresh, latest, requests["first_s"])
        self._compute(fresh, observed.prompt_tok_s * interval_s)
        before = requests["generated"].copy()
        weight = started * np.where(fresh, 0.5, 1.0)
        tokens = observed.output_tok_s * interval_s
        self.pace = tokens / float(weight.sum()) if weight.any() else 0.0
        after = before + self.pace * weight
        requests["generated"] = np.where(started, np.maximum(after, 1.0), after)
        return started, before

    def _compute(self, fresh: NDArray[np.bool_], tokens: float) -> None:
        """Gives computed prompt tokens to those that began to decode, then to the next in order."""
        requests = self.requests
        self._prompts.note(float(fresh.sum()), tokens)
        tokens -= float((requests["prompt"] - requests["computed"])[fresh].sum())
        for index in np.flatnonzero(np.isnan(requests["first_s"])):
            if tokens <= 0.0:
                return
            own = requests[index]
            left = max(own["prompt"] - 1.0 - own["computed"], 0.0)
            requests["computed"][index] += min(left, tokens)
            tokens -= left

    def _finish(self, gone: int, started: NDArray[np.bool_], before: NDArray[np.float64]) -> None:
        """Draws who has finished."""
        if gone <= 0:
            return
        requests = self.requests
        hazard = self._outputs.hazard(before, requests["generated"])
        # The smallest of exponential times at these rates: a draw without replacement.
        rate = np.where(started, -np.log1p(-np.minimum(hazard, 1.0 - 1e-9)), 1e-12)
        chosen = np.argsort(self._rng.exponential(size=len(requests)) / rate)[:gone]
        self._outputs.note(gone, float(requests["generated"][chosen].sum()))
        self.requests = np.delete(requests, chosen)

    def advance_baseline(
        self, tokens_each: float, places: float, now_s: float, interval_s: float
    ) -> float:
        """Lets Baseline serve these requests for an interval.

        Args:
            tokens_each: Tokens that each request got that decoded all the time.
            places: How many requests it can serve at once.
            now_s: When the interval ended.
            interval_s: Its length.

        Returns:
            Output tokens that it is expected to be ahead by: of the requests that are here, for
            it has finished those that are gone.
        """
        requests = self.requests
        decodes = requests["reached"] > 0.0
        first_s = requests["arrived_s"] + interval_s / max(tokens_each, 1.0)
        part = np.clip((now_s - first_s) / interval_s, 0.0, 1.0)
        part[~decodes] = np.minimum(part[~decodes], 0.5)  # a place was free halfway, on average
        reached = np.maximum(requests["reached"] + tokens_each * part, requests["generated"])
        there = self._outputs.survival(requests["generated"], reached)
        admitted = decodes | (np.cumsum(there) <= places)
        requests["reached"] = np.where(admitted, reached, requests["generated"])
        return float(self._outputs.between(requests["generated"], requests["reached"]).sum())

    def _settle(self, observed: Observation, now_s: float) -> None:
        """Makes the ages and prompts of those that wait agree with what was observed."""
        requests = self.requests
        waiting = np.flatnonzero(np.isnan(requests["first_s"]))
        if len(waiting):
            oldest = now_s - observed.oldest_wait_s
            arrived = np.maximum(requests["arrived_s"][waiting], oldest)
            arrived[0] = oldest
            requests["arrived_s"][waiting] = arrived
            prompts = requests["prompt"][waiting]
            factor = observed.prefill_backlog_tokens / max(float(prompts.sum()), 1.0)
            fitting = prompts * np.clip(factor, 0.25, 4.0)
            requests["prompt"][waiting] = fitting
            computed = requests["computed"][waiting]
            requests["computed"][waiting] = np.minimum(computed, np.maximum(fitting - 1.0, 0.0))
