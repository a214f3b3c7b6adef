"""An independent, slow reference of the simulated server: objects, lists, one step at a time.

It follows vLLM v1's scheduler (:mod:`support.reference_engine`): requests are objects in lists,
every request owns a list of blocks, the running list is walked in order, a request without a
block takes it from the newest running request, and nothing is kept as a running sum that could
be counted afresh. Step time and power come from the simulator's own :func:`resolve_step`;
everything else is worked out here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from envs.simulator.step_model import idle_power_w, resolve_step, waiting_power_w
from support.reference_engine import Job, ReferenceEngine, Texts

SETTLED_W = 0.5
REPORT_S = 0.1
SYNC_STEPS = 16

Request = tuple[float, int, int] | tuple[float, int, int, Texts]
"""Arrival time, prompt, output, and what its blocks are found again by."""


@dataclass
class ServerFacts:
    """What the reference needs to know about a server."""

    step_model: np.ndarray
    blocks: int
    """Of one replica, as the other limits are."""
    block_size: int
    max_num_seqs: int
    token_budget: int
    max_model_len: int
    num_gpus: int
    replicas: int
    cap_w: float
    clock_max_mhz: float
    settling_s: float
    limit_window_s: float
    sensor_window_s: float
    warming_s: float
    alpha: float
    beta_w: float
    lockstep: int = 1
    max_waiting: int = 1_000_000
    caching: bool = False


@dataclass
class Step:
    """A step under way, of one engine."""

    end_s: float
    power_w: float
    clock: float
    binding: float


def _followed(mean_w: float, power_w: float, seconds: float, tau_s: float) -> float:
    """Where a mean that follows the power is after some time."""
    kept = math.exp(-seconds / tau_s) if tau_s else 0.0
    return power_w + (mean_w - power_w) * kept


class ReferenceServer:
    """Runs requests through a server, one engine step at a time.

    Args:
        facts: The server.
        requests: ``(arrival time, prompt, output)``, endless or not.
        concurrency: Requests kept in flight; ``None`` for open arrivals.
    """

    def __init__(
        self,
        facts: ServerFacts,
        requests: Iterator[Request],
        concurrency: int | None = None,
    ) -> None:
        self.facts = facts
        self.concurrency = concurrency
        self.cap_w = self.cap_in_force_w = facts.cap_w
        self.limit = facts.max_num_seqs
        self.clock_limit = 1.0
        self.ttft_slo_s = self.tpot_slo_s = math.inf
        self.now = 0.0
        self.jobs: list[Job] = []
        self.engines = [
            ReferenceEngine(facts.blocks, facts.block_size, facts.token_budget, facts.caching)
            for _ in range(facts.replicas)
        ]
        self.steps: list[Step | None] = [None] * facts.replicas
        self.reports = [(0, 0, 0.0)] * facts.replicas
        self.reported_s = 0.0
        self.turn = 0
        self.wave_steps = [0] * facts.replicas
        self.rejected = 0
        self._requests = requests
        self._coming = next(requests, None)
        idle_w = idle_power_w(facts.step_model)
        self._limited_w, self._warm_w = [idle_w] * facts.replicas, [idle_w] * facts.replicas
        self._powers = [(-math.inf, 0.0, idle_w * facts.num_gpus)]

    def apply(self, cap_w: float, max_num_seqs: int, clock: float = 1.0) -> None:
        self.cap_w, self.limit, self.clock_limit = cap_w, max_num_seqs, clock

    # ---------------------------------------------------------------- arrivals

    def _take(self, arrived_s: float) -> Job | None:
        """Takes the next request; ``None`` if it does not fit the context or the queue."""
        assert self._coming is not None
        _, prompt, output, *texts = self._coming
        self._coming = next(self._requests, None)
        self.arrivals += 1
        # A request that was preempted has had its place, and does not count.
        queued = sum(job.preemptions == 0 for engine in self.engines for job in engine.waiting)
        if prompt + output > self.facts.max_model_len or queued >= self.facts.max_waiting:
            self.rejected += 1
            self.rejections += 1
            return None
        job = Job(arrived_s, prompt, output, texts=texts[0] if texts else hash)
        self.jobs.append(job)
        self.engines[self._least_busy()].waiting.append(job)
        return job

    def _least_busy(self) -> int:
        """Chooses as vLLM's ``DPLBAsyncMPClient`` does, from reports of the last 0.1 s."""
        if len(self.engines) == 1:
            return 0
        if self.now - self.reported_s >= REPORT_S:
            self.reported_s = self.now
            self.reports = [
                (len(engine.waiting), len(engine.running), engine.usage())
                for engine in self.engines
            ]
        scores = []
        for engine, (waiting, running, usage) in zip(self.engines, self.reports, strict=True):
            sent = len(engine.waiting) + len(engine.running)
            score = max(sent, waiting + running) + waiting * 6.0 * max(0.0, usage - 0.5)
            scores.append(score)
        order = [(self.turn + i) % len(scores) for i in range(len(scores))]
        chosen = min(order, key=lambda index: scores[index])
        waiting, running, usage = self.reports[chosen]
        self.reports[chosen] = (waiting + 1, running, usage)
        self.turn = (self.turn + 1) % len(scores)
        return chosen

    def _in_flight(self) -> int:
        return sum(len(engine.waiting) + len(engine.running) for engine in self.engines)

    def _arrive(self) -> None:
        if self.concurrency is None:
            while self._coming is not None and self._coming[0] <= self.now:
                self._take(self._coming[0])
            return
        refused = 0
        while self._in_flight() < self.concurrency and self._coming:
            refused = 0 if self._take(self.now) else refused + 1
            if refused == 64:
                return

    # --------------------------------------------------------------- one step

    def _start(self, first: int) -> bool:
        """Starts a step of the engines that step together; returns whether there is one."""
        group = range(first, first + self.facts.lockstep)
        works = [self.engines[index].schedule(self.limit) for index in group]
        passed = self.wave_steps[first]
        if not any(works) and (len(works) == 1 or passed <= 1 or passed % SYNC_STEPS == 0):
            self.wave_steps[first] = 0
            return False
        self.wave_steps[first] += 1
        for index, step in zip(group, self._launch(works, first), strict=True):
            self.steps[index] = step
        return True

    def _launch(self, works: list[list[tuple[Job, int]]], first: int) -> list[Step]:
        together = len(works) > 1
        met = float(sum(max(1, sum(tokens for _, tokens in work)) for work in works))
        found = [
            self._resolve(work, met if together else -1.0, first + place)
            for place, work in enumerate(works)
        ]
        longest = max(time_s for time_s, *_ in found)
        steps = []
        for time_s, power_w, clock, binding in found:
            if together:
                fraction = time_s / longest
                waiting_w = waiting_power_w(self.facts.step_model)
                power_w = power_w * fraction + waiting_w * (1.0 - fraction)
            steps.append(Step(self.now + longest, power_w, clock, binding))
        return steps

    def _resolve(
        self, work: list[tuple[Job, int]], met: float, index: int
    ) -> tuple[float, float, float, float]:
        decoding = [job for job, _ in work if not job.prefilling]
        prompts = [(job, tokens) for job, tokens in work if job.prefilling]
        # An engine without work computes a token that nobody asked for.
        sequences, context = (len(decoding), sum(job.computed + 1 for job in decoding))
        if not work:
            sequences, context = 1, 1
        shape = (
            float(sequences),
            float(context),
            float(sum(tokens for _, tokens in prompts)),
            float(sum(sum(range(job.computed + 1, job.computed + n + 1)) for job, n in prompts)),
        )
        warming, warm_w = self.facts.step_model.warming, self._warm_w[index]

        def resolve(cap_w: float) -> tuple[float, float, float, float]:
            steady_cap_w = (cap_w - warming * warm_w) / (1.0 - warming)
            time_s, power_w, clock, binding = resolve_step(
                self.facts.step_model, *shape, steady_cap_w, self.clock_limit, met
            )
            return time_s, power_w + warming * (warm_w - power_w), clock, binding

        cap_w, window_s = self.cap_in_force_w, self.facts.limit_window_s
        found = resolve(cap_w)
        room_w = cap_w - self._limited_w[index]
        if found[3] and window_s and room_w > SETTLED_W:
            free = resolve(math.inf)
            if _followed(self._limited_w[index], free[1], free[0], window_s) <= cap_w:
                return free
            kept = math.exp(-found[0] / window_s)
            found = resolve(cap_w + room_w * kept / (1.0 - kept))
        return found

    def _land(self, engine: ReferenceEngine) -> None:
        """Applies what an engine's step has computed."""
        for job, tokens in engine.work:
            was_prefilling = job.prefilling
            job.computed += tokens
            if was_prefilling:
                fresh = max(0, min(job.computed, job.prompt) - job.seen_prompt)
                job.seen_prompt += fresh
                self.prompt_tokens += fresh
                if job.prefilling:
                    continue
            job.generated += 1
            self.output_tokens += 1
            if job.first_s is None:
                job.first_s = self.now
                self.ttft.append(self.now - job.arrived_s)
            if job.generated == job.output:
                self._finish(engine, job)

    def _finish(self, engine: ReferenceEngine, job: Job) -> None:
        assert job.first_s is not None
        job.finished_s = self.now
        engine.running.remove(job)
        engine.release(job)
        self.finished += 1
        self.e2e.append(self.now - job.arrived_s)
        tpot = job.tpot_s
        if tpot is not None:
            self.tpot.append(tpot)
        late = job.first_s - job.arrived_s > self.ttft_slo_s
        self.slo_missed += late or (tpot is not None and tpot > self.tpot_slo_s)

    # ------------------------------------------------------------------- time

    def _pass(self, until: float) -> None:
        elapsed = until - self.now
        if elapsed <= 0.0:
            return
        idle_w, warming = idle_power_w(self.facts.step_model), self.facts.step_model.warming
        steps = []
        for index, step in enumerate(self.steps):
            drawn_w = idle_w + warming * (self._warm_w[index] - idle_w)
            steps.append(step or Step(math.inf, drawn_w, self.clock_limit, 0.0))
            now_w = steps[-1].power_w
            for means, tau in (
                (self._limited_w, self.facts.limit_window_s),
                (self._warm_w, self.facts.warming_s),
            ):
                means[index] = _followed(means[index], now_w, elapsed, tau)
        power_w = sum(s.power_w for s in steps) / len(steps) * self.facts.num_gpus
        self.energy_j += power_w * elapsed
        self._powers.append((self.now, until, power_w))
        self.clock_s += sum(step.clock for step in steps) / len(steps) * elapsed
        self.binding_s += sum(step.binding for step in steps) / len(steps) * elapsed
        gap = self.cap_in_force_w - self.cap_w
        if gap:
            tau = self.facts.settling_s
            gap *= math.exp(-elapsed / tau) if tau > 0 else 0.0
            self.cap_in_force_w = self.cap_w + (gap if abs(gap) >= SETTLED_W else 0.0)
        self.now = until

    def advance(self, seconds: float) -> dict[str, float]:
        """Lets time pass; returns the telemetry's numbers by name."""
        start, until = self.now, self.now + seconds
        self.ttft: list[float] = []
        self.tpot: list[float] = []
        self.e2e: list[float] = []
        self.prompt_tokens = self.output_tokens = self.arrivals = self.finished = 0
        self.rejections = self.slo_missed = 0
        for engine in self.engines:
            engine.preemptions = engine.queries = engine.hits = 0
        self.energy_j = self.clock_s = self.binding_s = 0.0
        while True:
            busy = [step.end_s for step in self.steps if step is not None]
            if busy:
                event = min(busy)
                some_idle = len(busy) < len(self.steps)
                if some_idle and self.concurrency is None and self._coming is not None:
                    event = min(event, self._coming[0])
                self._pass(min(event, until))
                if event > until:
                    break
                for index, step in enumerate(self.steps):
                    if step is not None and step.end_s <= self.now:
                        self.steps[index] = None
                        self._land(self.engines[index])
            self._arrive()
            if self.now >= until:
                break
            started = False
            for first in range(0, len(self.engines), self.facts.lockstep):
                started = self.steps[first] is not None or self._start(first) or started
            if not started:
                pause = until
                if self.concurrency is None and self._coming is not None:
                    pause = min(until, self._coming[0])
                self._pass(pause)
        if self.concurrency is None:
            self._arrive()
        return self._telemetry(until - start)

    # -------------------------------------------------------------- telemetry

    def _window_mean_w(self) -> float:
        """The mean power of all GPUs over the sensor's window, from everything there ever was."""
        begin = self.now - self.facts.sensor_window_s
        energy_j = sum(
            power_w * (end - max(start, begin))
            for start, end, power_w in self._powers
            if end > begin
        )
        return energy_j / self.facts.sensor_window_s

    def unfinished(self) -> list[Job]:
        return [job for job in self.jobs if job.finished_s is None]

    def overdue(self) -> int:
        """Counts unfinished requests that have missed an SLO whatever happens next."""
        count = 0
        for job in self.unfinished():
            if job.first_s is None:
                count += self.now - job.arrived_s > self.ttft_slo_s
            else:
                late = job.first_s - job.arrived_s > self.ttft_slo_s
                slow = (self.now - job.first_s) / job.generated > self.tpot_slo_s
                count += late or slow
        return count

    def _telemetry(self, duration: float) -> dict[str, float]:
        facts = self.facts
        starving = [job for job in self.unfinished() if job.first_s is None]
        ttft = self.ttft + [self.now - job.arrived_s for job in starving]
        power_w = self.energy_j / duration
        used = 0
        for engine in self.engines:
            used += len(engine.in_use())
            assert len(engine.in_use()) + len(engine.free) == facts.blocks, "a block was lost"
        row: dict[str, float] = {
            "time_s": self.now,
            "duration_s": duration,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "arrivals": self.arrivals,
            "finished": self.finished,
            "rejected": self.rejections,
            "running": sum(len(engine.running) for engine in self.engines),
            "waiting": sum(len(engine.waiting) for engine in self.engines),
            "prefill_backlog_tokens": sum(job.prompt for job in starving),
            "oldest_wait_s": max((self.now - job.arrived_s for job in starving), default=0.0),
            "kv_cache_usage": used / (facts.blocks * facts.replicas),
            "preemptions": sum(engine.preemptions for engine in self.engines),
            "slo_missed": self.slo_missed,
            "slo_overdue": self.overdue(),
            "power_w": self._window_mean_w() if facts.sensor_window_s else power_w,
            "energy_gpu_j": self.energy_j,
            "energy_system_j": facts.alpha * self.energy_j + facts.beta_w * duration,
            "sm_clock_mhz": self.clock_s / duration * facts.clock_max_mhz,
            "cap_binding": self.binding_s / duration,
            "power_cap_w": self.cap_w,
            "max_num_seqs": self.limit,
            "prefix_cache_queries": sum(engine.queries for engine in self.engines),
            "prefix_cache_hits": sum(engine.hits for engine in self.engines),
        }
        for name, samples in (("ttft", ttft), ("tpot", self.tpot), ("e2e", self.e2e)):
            row[f"{name}_samples"] = len(samples)
            for q in (50, 95, 99):
                value = np.percentile(samples, q, method="inverted_cdf") if samples else 0.0
                row[f"{name}_p{q}_s"] = float(value)
        return row
