"""An independent, slow reference of the simulated server: objects, lists, one step at a time.

It follows vLLM v1's scheduler: requests are objects in lists, every request owns a list of
block ids, the running list is walked in order, a request without a block takes it from the newest
running request, and nothing is kept as a running sum that could be counted afresh. Step time
and power come from the simulator's own :func:`resolve_step`; everything else is worked out
here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from envs.simulator.step_model import idle_power_w, resolve_step

SETTLED_W = 0.5


@dataclass
class Job:
    """One request and what has become of it."""

    arrived_s: float
    prompt: int
    output: int
    generated: int = 0
    computed: int = 0
    goal: int = 0
    """Tokens to compute before it decodes: the prompt, and after a preemption all so far."""
    blocks: list[int] = field(default_factory=list)
    seen_prompt: int = 0
    first_s: float | None = None
    finished_s: float | None = None
    preemptions: int = 0

    @property
    def prefilling(self) -> bool:
        return self.computed < self.goal

    @property
    def tpot_s(self) -> float | None:
        if self.output < 2 or self.finished_s is None or self.first_s is None:
            return None
        return (self.finished_s - self.first_s) / (self.output - 1)


@dataclass
class ServerFacts:
    """What the reference needs to know about a server."""

    step_model: np.ndarray
    blocks: int
    """Of all replicas together; the other limits are those of one replica."""
    block_size: int
    max_num_seqs: int
    token_budget: int
    max_model_len: int
    num_gpus: int
    replicas: int
    cap_w: float
    clock_max_mhz: float
    settling_s: float
    sensor_window_s: float
    alpha: float
    beta_w: float


@dataclass
class Step:
    """A step under way."""

    end_s: float
    power_w: float
    clock: float
    binding: float
    work: list[tuple[Job, int]]


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
        requests: Iterator[tuple[float, int, int]],
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
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.free = list(range(facts.blocks))
        self.rejected = 0
        self._requests = requests
        self._coming = next(requests, None)
        self._step: Step | None = None
        self._sensor_w = idle_power_w(facts.step_model) * facts.num_gpus

    def apply(self, cap_w: float, max_num_seqs: int, clock: float = 1.0) -> None:
        self.cap_w, self.limit, self.clock_limit = cap_w, max_num_seqs, clock

    # ---------------------------------------------------------------- arrivals

    def _take(self, arrived_s: float) -> Job | None:
        """Takes the next request; ``None`` if it does not fit the context."""
        assert self._coming is not None
        _, prompt, output = self._coming
        self._coming = next(self._requests, None)
        self.arrivals += 1
        if prompt + output > self.facts.max_model_len:
            self.rejected += 1
            self.rejections += 1
            return None
        job = Job(arrived_s, prompt, output)
        self.jobs.append(job)
        self.waiting.append(job)
        return job

    def _arrive(self) -> None:
        if self.concurrency is None:
            while self._coming is not None and self._coming[0] <= self.now:
                self._take(self._coming[0])
            return
        refused = 0
        while len(self.waiting) + len(self.running) < self.concurrency and self._coming:
            refused = 0 if self._take(self.now) else refused + 1
            if refused == 64:
                return

    # --------------------------------------------------------------- one step

    def _blocks_for(self, tokens: int) -> int:
        return math.ceil(tokens / self.facts.block_size)

    def _allocate(self, job: Job, new_tokens: int) -> bool:
        missing = self._blocks_for(job.computed + new_tokens) - len(job.blocks)
        if missing > len(self.free):
            return False
        for _ in range(missing):
            job.blocks.append(self.free.pop())
        return True

    def _release(self, job: Job) -> None:
        self.free.extend(job.blocks)
        job.blocks = []
        assert len(set(self.free)) == len(self.free), "a block was freed twice"

    def _preempt(self) -> Job:
        victim = self.running.pop()
        self._release(victim)
        victim.computed = 0
        victim.goal = victim.prompt + victim.generated
        victim.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(victim)
        return victim

    def _schedule(self) -> list[tuple[Job, int]]:
        """Returns the tokens that each request computes in the next step."""
        budget = self.facts.token_budget * self.facts.replicas
        work: list[tuple[Job, int]] = []
        preempted = False
        position = 0
        while position < len(self.running) and budget > 0:
            job = self.running[position]
            tokens = min(job.goal - job.computed if job.prefilling else 1, budget)
            fits = self._allocate(job, tokens)
            while not fits:
                preempted = True
                if self._preempt() is job:
                    break
                fits = self._allocate(job, tokens)
            if not fits:
                break
            work.append((job, tokens))
            budget -= tokens
            position += 1
        while not preempted and budget > 0 and self.waiting:
            if len(self.running) >= self.limit * self.facts.replicas:
                break
            job = self.waiting[0]
            job.goal = job.prompt + job.generated
            if self._blocks_for(job.goal) > len(self.free):
                break
            tokens = min(job.goal, budget)
            assert self._allocate(job, tokens)
            self.waiting.popleft()
            self.running.append(job)
            work.append((job, tokens))
            budget -= tokens
        return work

    def _launch(self, work: list[tuple[Job, int]]) -> Step:
        decoding = [job for job, _ in work if not job.prefilling]
        prompts = [(job, tokens) for job, tokens in work if job.prefilling]
        ranks = self.facts.replicas
        time_s, power_w, clock, binding = resolve_step(
            self.facts.step_model,
            float(len(decoding) / ranks),
            float(sum(job.computed + 1 for job in decoding) / ranks),
            float(sum(tokens for _, tokens in prompts) / ranks),
            float(
                sum(sum(range(job.computed + 1, job.computed + n + 1)) for job, n in prompts)
                / ranks
            ),
            self.cap_in_force_w,
            self.clock_limit,
        )
        return Step(self.now + time_s, power_w, clock, binding, work)

    def _land(self, step: Step) -> None:
        """Applies what a step has computed."""
        for job, tokens in step.work:
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
                self._finish(job)

    def _finish(self, job: Job) -> None:
        assert job.first_s is not None
        job.finished_s = self.now
        self.running.remove(job)
        self._release(job)
        self.finished += 1
        self.e2e.append(self.now - job.arrived_s)
        tpot = job.tpot_s
        if tpot is not None:
            self.tpot.append(tpot)
        late = job.first_s - job.arrived_s > self.ttft_slo_s
        self.slo_missed += late or (tpot is not None and tpot > self.tpot_slo_s)

    # ------------------------------------------------------------------- time

    def _pass(self, until: float, power_w: float, clock: float, binding: float) -> None:
        elapsed = until - self.now
        if elapsed <= 0.0:
            return
        self.energy_j += power_w * elapsed * self.facts.num_gpus
        self.clock_s += clock * elapsed
        self.binding_s += binding * elapsed
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
        self.preemptions = self.rejections = self.slo_missed = 0
        self.energy_j = self.clock_s = self.binding_s = 0.0
        while True:
            if self._step is not None:
                step = self._step
                self._pass(min(step.end_s, until), step.power_w, step.clock, step.binding)
                if step.end_s > until:
                    break
                self._step = None
                self._land(step)
            self._arrive()
            if self.now >= until:
                break
            work = self._schedule()
            if work:
                self._step = self._launch(work)
                continue
            pause = until
            if self.concurrency is None and self._coming is not None:
                pause = min(until, self._coming[0])
            idle_w = idle_power_w(self.facts.step_model)
            self._pass(pause, idle_w, self.clock_limit, 0.0)
        if self.concurrency is None:
            self._arrive()
        return self._telemetry(until - start)

    # -------------------------------------------------------------- telemetry

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
        fraction = min(1.0, duration / facts.sensor_window_s) if facts.sensor_window_s > 0 else 1.0
        self._sensor_w += fraction * (power_w - self._sensor_w)
        used = sum(len(job.blocks) for job in self.jobs)
        assert used + len(self.free) == facts.blocks, "a block was lost"
        row: dict[str, float] = {
            "time_s": self.now,
            "duration_s": duration,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "arrivals": self.arrivals,
            "finished": self.finished,
            "rejected": self.rejections,
            "running": len(self.running),
            "waiting": len(self.waiting),
            "prefill_backlog_tokens": sum(job.prompt for job in starving),
            "oldest_wait_s": max((self.now - job.arrived_s for job in starving), default=0.0),
            "kv_cache_usage": used / facts.blocks,
            "preemptions": self.preemptions,
            "slo_missed": self.slo_missed,
            "slo_overdue": self.overdue(),
            "power_w": self._sensor_w,
            "energy_gpu_j": self.energy_j,
            "energy_system_j": facts.alpha * self.energy_j + facts.beta_w * duration,
            "sm_clock_mhz": self.clock_s / duration * facts.clock_max_mhz,
            "cap_binding": self.binding_s / duration,
            "power_cap_w": self.cap_w,
            "max_num_seqs": self.limit,
        }
        for name, samples in (("ttft", ttft), ("tpot", self.tpot), ("e2e", self.e2e)):
            row[f"{name}_samples"] = len(samples)
            for q in (50, 95, 99):
                value = np.percentile(samples, q, method="inverted_cdf") if samples else 0.0
                row[f"{name}_p{q}_s"] = float(value)
        return row
