"""The phases of a measurement: idle, decode, prefill, load steps, saturation, Poisson, limits."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from experiments.measure_gpu.client import Request, Server

Write = Callable[[str, dict[str, Any]], None]
"""Appends a row to a file of JSON lines: its name without the ending, and the row."""


@dataclass(kw_only=True)
class Plan:
    """How long and how large everything is.

    Attributes:
        batches: Batch sizes of the decode phase.
        decode_prompt_tokens: Length of its prompts.
        decode_s: Time one batch size is to decode for.
        contexts: Further pairs of batch size and prompt length to decode at.
        prompts: Prompt lengths of the prefill phase.
        prefill_s: Time each of them is repeated for.
        saturated_prompts: Pairs of prompt length and requests in flight for saturated prefill.
        step_batch: Batch size of the load steps.
        steps: Number of load steps.
        step_s: Time of one load step, and of the pause after it.
        mixture_prompts: Range of prompt lengths of the mixture (saturation and Poisson).
        mixture_outputs: Range of its output lengths.
        saturation_in_flight: Requests in flight while saturation is measured.
        saturation_s: Time for which it is measured.
        poisson_share: Arrivals per second of the Poisson phase, as a share of saturation.
        poisson_s: Time over which requests arrive.
        limits: High and low batch limit of the limits phase.
        limit_s: Time each limit is held.
        turn_tokens: Output tokens of each request of a turn of the comparison.
        turn_batch: Requests of one turn.
        turns: Pairs of turns.
        idle_s: Time of an idle phase.
        streams: Requests of a batch that are streamed, so that their gaps are seen; a client
            that streamed all of a large batch would measure itself.
        max_output_tokens: Most tokens a request may ask for.
    """

    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    decode_prompt_tokens: int = 128
    decode_s: float = 5.0
    contexts: tuple[tuple[int, int], ...] = ((16, 4096), (64, 1024))
    prompts: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
    prefill_s: float = 2.5
    saturated_prompts: tuple[tuple[int, int], ...] = ((128, 128), (1024, 32))
    step_batch: int = 64
    steps: int = 3
    step_s: float = 4.0
    mixture_prompts: tuple[int, int] = (64, 512)
    mixture_outputs: tuple[int, int] = (32, 224)
    saturation_in_flight: int = 256
    saturation_s: float = 10.0
    poisson_share: float = 0.6
    poisson_s: float = 45.0
    limits: tuple[int, int] = (96, 32)
    limit_s: float = 3.0
    turn_tokens: int = 400
    turn_batch: int = 64
    turns: int = 4
    idle_s: float = 10.0
    streams: int = 16
    max_output_tokens: int = 4000


@dataclass(kw_only=True)
class Bench:
    """What the phases share.

    Attributes:
        server: The server that is measured.
        plan: How long and how large everything is.
        write: Where results go.
        end_s: ``time.monotonic()`` after which no window is begun.
        other: A second server with the same model, for the comparison.
        step_s: Decode step times seen, by batch size, for choosing how many tokens to ask for.
        saturation_rps: Requests per second that the server finishes at saturation.
    """

    server: Server
    plan: Plan
    write: Write
    end_s: float
    other: Server | None = None
    step_s: dict[int, float] = field(default_factory=dict)
    saturation_rps: float | None = None
    _random: random.Random = field(default_factory=lambda: random.Random(2))

    @contextlib.asynccontextmanager
    async def window(self, phase: str, **facts: Any) -> AsyncIterator[dict[str, Any]]:
        """A stretch of time that becomes one row of ``windows.jsonl``.

        The body may add facts; ``steady_begin_s`` and ``steady_end_s`` say which part of it
        power is taken from.
        """
        row: dict[str, Any] = {"phase": phase, "url": self.server.url, **facts}
        row["begin_s"] = time.monotonic()
        try:
            yield row
        finally:
            row["end_s"] = time.monotonic()
            self.write("windows", row)

    def note(self, phase: str, requests: Iterable[Request]) -> None:
        """Writes requests to ``requests.jsonl``."""
        for request in requests:
            self.write("requests", {"phase": phase, **request.as_row()})

    def time_for(self, seconds: float, phase: str, **facts: Any) -> bool:
        """Whether a window still fits the budget; one that does not is noted as skipped."""
        fits = time.monotonic() + seconds <= self.end_s
        if not fits:
            self.write("windows", {"phase": "skipped", "of": phase, **facts})
        return fits

    def output_tokens(self, size: int, seconds: float) -> int:
        """Returns how many tokens a batch generates in about so long."""
        smaller = [known for known in self.step_s if known <= size]
        step_s = self.step_s[max(smaller)] if smaller else 0.01
        if size not in self.step_s:
            step_s *= 1.25  # a larger batch takes longer
        return min(max(int(seconds / step_s), 16), self.plan.max_output_tokens)

    def learn(self, row: dict[str, Any]) -> None:
        """Takes the step time from a window of equal requests."""
        if "steady_end_s" in row:
            seconds = row["steady_end_s"] - row["steady_begin_s"]
            self.step_s[row["batch"]] = max(seconds / row["output_tokens"], 1e-4)

    def mixture(self, streamed: bool) -> Request:
        """Draws a request of the mixture."""
        return Request(
            prompt_tokens=self._random.randint(*self.plan.mixture_prompts),
            output_tokens=self._random.randint(*self.plan.mixture_outputs),
            streamed=streamed,
        )

    def exponential(self, rate: float) -> float:
        """Draws the time to the next arrival."""
        return self._random.expovariate(rate)


async def idle(bench: Bench, name: str, seconds: float | None = None) -> None:
    """Sends nothing for a while."""
    seconds = bench.plan.idle_s if seconds is None else seconds
    if bench.time_for(seconds, name):
        async with bench.window(name):
            await asyncio.sleep(seconds)


async def warm_up(bench: Bench) -> None:
    """Has everything compiled and allocated that later phases use."""
    plan = bench.plan
    async with bench.window("warm_up") as row:
        requests = [Request(prompt_tokens=size, output_tokens=4) for size in plan.prompts]
        for request in requests:
            await bench.server.send(request)
        probe = Request(prompt_tokens=plan.decode_prompt_tokens, output_tokens=100)
        await bench.server.send(probe)
        requests.append(probe)
        for _ in range(2):
            burst = [
                Request(prompt_tokens=plan.decode_prompt_tokens, output_tokens=20, streamed=False)
                for _ in range(max(plan.batches))
            ]
            await asyncio.gather(*map(bench.server.send, burst))
            requests += burst
        row["errors"] = [request.error for request in requests if request.error][:5]
    if probe.gaps_ms:
        bench.step_s[1] = max(probe.gaps_ms[0] * 1e-3, 1e-4)


async def batch(
    bench: Bench, server: Server, row: dict[str, Any], size: int, prompt: int, output: int
) -> list[Request]:
    """Runs a batch of equal requests and notes when all of them decoded.

    The streamed ones are sent last, so that their first tokens tell that all are running.
    """
    streams = min(size, bench.plan.streams)
    requests = [
        Request(prompt_tokens=prompt, output_tokens=output, streamed=place >= size - streams)
        for place in range(size)
    ]
    firsts: list[float] = []
    ends: list[float] = []

    async def run(request: Request, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await server.send(request, lambda: firsts.append(time.monotonic()))
        ends.append(time.monotonic())

    await asyncio.gather(*(run(item, 0.05 if item.streamed else 0.0) for item in requests))
    row |= {
        "batch": size,
        "prompt_tokens": prompt,
        "output_tokens": output,
        "errors": [item.error for item in requests if item.error][:5],
        "seconds": max(ends) - row["begin_s"],
    }
    gaps = [item.gaps_ms for item in requests if item.gaps_ms]
    if firsts and gaps:
        row["steady_begin_s"] = max(firsts)
        row["steady_end_s"] = min(ends)
        row["client_itl_p50_ms"] = statistics.median(item[0] for item in gaps)
        row["client_itl_p99_ms"] = statistics.median(item[2] for item in gaps)
    return requests


async def decode(bench: Bench) -> None:
    """Decodes with one batch size after another, then with longer contexts."""
    plan = bench.plan
    sizes = [(size, plan.decode_prompt_tokens) for size in plan.batches] + list(plan.contexts)
    for size, prompt in sizes:
        if bench.time_for(2.0 * plan.decode_s, "decode", batch=size, prompt_tokens=prompt):
            output = bench.output_tokens(size, plan.decode_s)
            async with bench.window("decode") as row:
                bench.note("decode", await batch(bench, bench.server, row, size, prompt, output))
            bench.learn(row)
            await asyncio.sleep(0.5)


async def prefill(bench: Bench) -> None:
    """Sends prompts of one length, one at a time, then many at a time."""
    plan = bench.plan
    pairs = [(prompt, 1) for prompt in plan.prompts] + list(plan.saturated_prompts)
    for prompt, in_flight in pairs:
        facts = {"prompt_tokens": prompt, "in_flight": in_flight}
        if not bench.time_for(2.0 * plan.prefill_s, "prefill", **facts):
            continue
        async with bench.window("prefill", **facts) as row:
            done = await closed_loop(
                bench.server,
                in_flight,
                plan.prefill_s,
                lambda prompt=prompt: Request(  # type: ignore[misc]
                    prompt_tokens=prompt, output_tokens=1
                ),
            )
            times = [item.ttft_s for item in done if item.ttft_s is not None]
            row |= {
                "steady_begin_s": row["begin_s"],
                "steady_end_s": row["begin_s"] + plan.prefill_s,
                "requests": len(done),
                "ttft_p50_ms": 1e3 * statistics.median(times) if times else None,
                "ttft_min_ms": 1e3 * min(times) if times else None,
                "errors": [item.error for item in done if item.error][:5],
            }
        bench.note("prefill", done)


async def closed_loop(
    server: Server, in_flight: int, seconds: float, make: Callable[[], Request]
) -> list[Request]:
    """Keeps so many requests in flight for so long, then waits for the last ones."""
    done: list[Request] = []
    end = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            done.append(await server.send(make()))
            if done[-1].error:
                await asyncio.sleep(0.1)

    await asyncio.gather(*(client() for _ in range(in_flight)))
    return done


async def load_steps(bench: Bench) -> None:
    """From nothing to a full batch and back, several times."""
    plan = bench.plan
    for _ in range(plan.steps):
        if bench.time_for(3.0 * plan.step_s, "load_step"):
            await idle(bench, "load_step_pause", plan.step_s)
            size, prompt = plan.step_batch, plan.decode_prompt_tokens
            output = bench.output_tokens(size, plan.step_s)
            async with bench.window("load_step") as row:
                done = await batch(bench, bench.server, row, size, prompt, output)
            bench.note("load_step", done)
            bench.learn(row)
    await idle(bench, "load_step_pause", plan.step_s)


async def saturation(bench: Bench) -> None:
    """Measures how many requests of the mixture the server finishes when there is no end."""
    plan = bench.plan
    if not bench.time_for(2.0 * plan.saturation_s, "saturation"):
        return
    async with bench.window("saturation", in_flight=plan.saturation_in_flight) as row:
        done = await closed_loop(
            bench.server,
            plan.saturation_in_flight,
            plan.saturation_s,
            lambda: bench.mixture(streamed=False),
        )
        begin = row["begin_s"] + 0.3 * plan.saturation_s
        end = row["begin_s"] + plan.saturation_s
        # Counted in tokens: whole requests are too coarse for so short a time.
        tokens = sum(_overlap(item, begin, end) for item in done)
        mean = sum(plan.mixture_outputs) / 2
        bench.saturation_rps = tokens / mean / (end - begin)
        row |= {
            "steady_begin_s": begin,
            "steady_end_s": end,
            "requests": len(done),
            "requests_per_s": bench.saturation_rps,
            "errors": [item.error for item in done if item.error][:5],
        }
    bench.note("saturation", done)


def _overlap(request: Request, begin: float, end: float) -> float:
    """Tokens of a request that fall into a window, as if they came evenly."""
    if request.sent_s is None or request.end_s is None or request.error:
        return 0.0
    inside = min(request.end_s, end) - max(request.sent_s, begin)
    return request.output_tokens * max(0.0, inside) / (request.end_s - request.sent_s)


async def poisson(bench: Bench) -> None:
    """Sends the mixture at random times, a share of what the server can do; one in four streamed.

    Needs :func:`saturation` before it.
    """
    plan = bench.plan
    if not bench.saturation_rps or not bench.time_for(1.3 * plan.poisson_s, "poisson"):
        return
    rate = plan.poisson_share * bench.saturation_rps
    async with bench.window("poisson", rate_per_s=rate) as row:
        tasks: list[asyncio.Task[Request]] = []
        due = row["begin_s"]
        while True:
            due += bench.exponential(rate)
            if due > row["begin_s"] + plan.poisson_s:
                break
            request = bench.mixture(streamed=len(tasks) % 4 == 0)
            request.due_s = due
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(bench.server.send(request)))
        done = list(await asyncio.gather(*tasks))
        row |= {
            "steady_begin_s": row["begin_s"] + 0.2 * plan.poisson_s,
            "steady_end_s": row["begin_s"] + plan.poisson_s,
            "requests": len(done),
            "errors": [item.error for item in done if item.error][:5],
        }
    bench.note("poisson", done)


async def limits(bench: Bench) -> None:
    """Lowers and raises the batch limit while requests wait, draining first, then preempting."""
    plan = bench.plan
    found = await bench.server.batch_limit()
    if found is None or not bench.time_for(6.0 * plan.limit_s, "limits"):
        return
    high, low = plan.limits
    changes = [(high, "drain"), (low, "drain"), (high, "drain"), (low, "preempt"), (high, "drain")]
    output = bench.output_tokens(high, 0.5 * plan.limit_s)
    async with bench.window("limits", scheduler=found.get("scheduler")) as row:
        load = asyncio.create_task(
            closed_loop(
                bench.server,
                2 * high,
                plan.limit_s * len(changes),
                lambda: Request(
                    prompt_tokens=plan.decode_prompt_tokens, output_tokens=output, streamed=False
                ),
            )
        )
        try:
            for limit, mode in changes:
                asked = time.monotonic()
                await bench.server.batch_limit(max_num_seqs=limit, mode=mode)
                answered = time.monotonic()
                facts = {"asked_s": asked, "answered_s": answered, "limit": limit, "mode": mode}
                while time.monotonic() < asked + plan.limit_s:
                    state = await bench.server.batch_limit() or {}
                    bench.write("limits", {"time_s": time.monotonic(), **facts, **state})
                    await asyncio.sleep(0.02)
        finally:
            ceiling = int(found["max_num_seqs"])
            await bench.server.batch_limit(max_num_seqs=ceiling, mode=found["mode"])
        done = await load
        row |= {
            "requests": len(done),
            "output_tokens": output,
            "errors": [item.error for item in done if item.error][:5],
        }
    bench.note("limits", done)


async def compare(bench: Bench) -> None:
    """Lets two servers take turns with the same work, in the order A B B A A B B A."""
    plan = bench.plan
    if bench.other is None:
        return
    servers = [bench.server, bench.other]
    size, prompt = plan.turn_batch, plan.decode_prompt_tokens
    for turn in range(-2, 2 * plan.turns):
        if not bench.time_for(2.0 * plan.turn_tokens * bench.step_s.get(size, 0.01), "compare"):
            return
        server = servers[(turn + 1) // 2 % 2]
        state = await server.batch_limit()
        facts = {"url": server.url, "plugin": state is not None, "warm_up": turn < 0}
        async with bench.window("compare", **facts) as row:
            done = await batch(bench, server, row, size, prompt, plan.turn_tokens)
        bench.learn(row)
        bench.note("compare", done)


PHASES: dict[str, Callable[[Bench], Any]] = {
    "warm_up": warm_up,
    "idle": lambda bench: idle(bench, "idle_loaded"),
    "decode": decode,
    "prefill": prefill,
    "load_steps": load_steps,
    "saturation": saturation,
    "poisson": poisson,
    "limits": limits,
    "compare": compare,
    "idle_after": lambda bench: idle(bench, "idle_after"),
}
"""All phases, in the order in which they run."""
