"""Simulated servers in the state that a real one may be in, one for each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.twin.ledger import Ledger
from baselines.twin.lengths import LengthBelief
from baselines.twin.plans import FloatArray
from envs.observations import Observation
from envs.simulator.fleet import Fleet
from envs.simulator.kernel.estimate import place_decoding, place_prefilling
from envs.workloads.base import RequestChunk, RequestStream

NOW_S = 1e4
"""What the clock of a hypothesis shows: far enough from 0 for requests that came long ago."""


class ListedRequests(RequestStream):
    """Requests that are known one by one; more can be added.

    Args:
        chunk: The first of them.
    """

    def __init__(self, chunk: RequestChunk | None = None) -> None:
        self._chunks = [] if chunk is None else [chunk]

    def add(self, chunk: RequestChunk) -> None:
        """Adds requests that come after those before."""
        self._chunks.append(chunk)

    def take(self, count: int) -> RequestChunk:
        """Returns the next requests, all that there are up to a number."""
        if not self._chunks:
            nothing = np.zeros(0, dtype=np.int64)
            return RequestChunk(np.zeros(0), nothing, nothing)
        known = RequestChunk.joined(self._chunks)
        times_s, prompts, outputs = known[:3]
        left = _after(known, count)
        self._chunks = [left] if len(left.arrival_time_s) else []
        return RequestChunk(times_s[:count], prompts[:count], outputs[:count])


class Hypotheses:
    """The samples of some real servers.

    Args:
        fleet: ``samples`` servers in a row for each real one; their state is written again for
            every decision.
        samples: Samples of each.
        closed_loop: Whether requests come when others finish.

    Attributes:
        fleet: The servers.
    """

    def __init__(self, fleet: Fleet, samples: int, *, closed_loop: bool) -> None:
        self.fleet = fleet
        self._samples = samples
        self._closed_loop = closed_loop
        self._replicas = fleet.server_specs[0].spec.replicas

    def write(
        self,
        index: int,
        ledger: Ledger,
        outputs: LengthBelief,
        observed: Observation,
        now_s: float,
        kv_tokens: float,
        future: Sequence[RequestChunk],
    ) -> None:
        """Writes the state of one real server into its samples.

        Args:
            index: Which real server.
            ledger: Its requests.
            outputs: What is believed about output lengths.
            observed: What was observed of it last.
            now_s: The time on the ledger's clock.
            kv_tokens: Tokens that its KV cache holds when it is full.
            future: Requests to come in each sample, with times from now.
        """
        requests = ledger.requests
        running = requests[: ledger.decoding]
        generated = np.maximum(np.rint(running["generated"]), 1.0)
        prompts = _fitting(running["prompt"], generated, observed.kv_cache_usage * kv_tokens)
        room = self._room(prompts + generated)
        running, had, prompts = running[:room], _whole(generated[:room]), prompts[:room]
        waiting = requests[room:]
        partial = int(
            len(waiting) > 0 < ledger.prefilling
            and 1.0 <= round(waiting["computed"][0]) < round(waiting["prompt"][0])
            and waiting["generated"][0] == 0.0
        )
        arrived_s, first_s = _moments(running, now_s)
        came_s = waiting["arrived_s"] + NOW_S - now_s
        # Who waits and has tokens was preempted: its answer so far is computed again.
        all_prompts = _whole(waiting["prompt"] + waiting["generated"])
        for sample in range(self._samples):
            row = index * self._samples + sample
            lengths = outputs.longer_than(generated[:room], running["quantile"][:, sample])
            to_come = outputs.longer_than(waiting["generated"], waiting["quantile"][:, sample])
            answers = _whole(to_come - waiting["generated"])
            queued = RequestChunk(came_s, all_prompts, answers)
            self._begin(row, _after(queued, partial), future[sample], len(requests), observed)
            address = int(self.fleet.addresses[row])
            placed = place_decoding(address, prompts, had, _whole(lengths), arrived_s, first_s)
            if partial:
                computed = round(waiting["computed"][0])
                placed += place_prefilling(
                    address, placed % self._replicas, int(all_prompts[0]), computed,
                    int(answers[0]), float(came_s[0]),
                )  # fmt: skip
            if self._closed_loop:
                self.fleet.servers[row].in_flight = placed

    def write_baseline(
        self,
        index: int,
        ledger: Ledger,
        outputs: LengthBelief,
        highest: Observation,
        now_s: float,
        future: Sequence[RequestChunk],
    ) -> FloatArray:
        """Writes the state in which Baseline would be into the samples of one real server.

        Requests have the lengths that :meth:`write` gives them in the same sample.

        Args:
            index: Which real server.
            ledger: Its requests, and how far Baseline has come with each.
            outputs: What is believed about output lengths.
            highest: What was observed, with Baseline's cap and power.
            now_s: The time on the ledger's clock.
            future: Requests to come in each sample, with times from now.

        Returns:
            Output tokens that Baseline is ahead by in each sample, shape ``(samples,)``.
        """
        requests = ledger.requests
        reached = np.maximum(np.rint(requests["reached"]), np.rint(requests["generated"]))
        decodes = reached >= 1.0
        ahead = np.zeros(self._samples)
        arrived_s, first_s = _moments(requests, now_s)
        prompts = _whole(requests["prompt"])
        for sample in range(self._samples):
            row = index * self._samples + sample
            lengths = outputs.longer_than(requests["generated"], requests["quantile"][:, sample])
            ahead[sample] = (np.minimum(lengths, reached) - requests["generated"]).sum()
            there = lengths > reached
            running = np.flatnonzero(there & decodes)
            running = running[: self._room(prompts[running] + reached[running])]
            there[running] = False
            queued = RequestChunk(
                arrived_s[there],
                _whole(prompts[there] + reached[there]),
                _whole(lengths[there] - reached[there]),
            )
            self._begin(row, queued, future[sample], len(requests), highest)
            placed = place_decoding(
                int(self.fleet.addresses[row]),
                prompts[running], _whole(reached[running]), _whole(lengths[running]),
                arrived_s[running], first_s[running],
            )  # fmt: skip
            if self._closed_loop:
                self.fleet.servers[row].in_flight = placed
        return ahead

    def _begin(
        self,
        row: int,
        queued: RequestChunk,
        future: RequestChunk,
        concurrency: int,
        observed: Observation,
    ) -> None:
        """Starts a sample whose batch is empty yet."""
        coming = ListedRequests(queued)
        coming.add(moved(future, NOW_S))
        self.fleet.begin(row, coming, concurrency if self._closed_loop else None)
        server = self.fleet.servers[row]
        server.now_s = server.until_s = server.interval_start_s = NOW_S
        server.power_cap_w = server.cap_in_force_w = observed.power_cap_w
        self.fleet.states.assume_power(row, NOW_S, observed.power_w)

    def _room(self, tokens: NDArray[np.float64]) -> int:
        """Returns how many requests, from the first, the KV cache has blocks for."""
        engine = self.fleet.server_specs[0].spec
        needed = np.ceil(tokens / engine.block_size)
        room = len(tokens)
        for turn in range(engine.replicas):
            taken = np.cumsum(needed[turn :: engine.replicas])
            fitting = int(np.searchsorted(taken, engine.kv_blocks, side="right"))
            room = min(room, fitting * engine.replicas + turn)
        return room


def _moments(requests: NDArray[Any], now_s: float) -> tuple[FloatArray, FloatArray]:
    """Returns when requests came and had their first token, on a sample's clock."""
    first_s = np.where(np.isnan(requests["first_s"]), now_s, requests["first_s"])
    return requests["arrived_s"] + NOW_S - now_s, first_s + NOW_S - now_s


def _after(chunk: RequestChunk, count: int) -> RequestChunk:
    """Returns all requests but the first ones."""
    times_s, prompts, outputs = chunk[:3]
    return RequestChunk(times_s[count:], prompts[count:], outputs[count:])


def moved(chunk: RequestChunk, seconds: float) -> RequestChunk:
    """Returns requests that come later by a time."""
    return chunk._replace(arrival_time_s=chunk.arrival_time_s + seconds)


def _fitting(
    prompts: NDArray[np.float64], generated: NDArray[np.float64], cached_tokens: float
) -> NDArray[np.int64]:
    """Returns prompts that take, with what was generated, the tokens that are cached."""
    total = float(prompts.sum())
    left = max(cached_tokens - float(generated.sum()), 0.0)
    factor = np.clip(left / total, 0.5, 2.0) if total > 0 and cached_tokens > 0 else 1.0
    return _whole(prompts * factor)


def _whole(tokens: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.maximum(np.rint(tokens), 1.0).astype(np.int64)
