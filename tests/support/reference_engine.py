"""One engine of the reference: vLLM v1's scheduler and KV-cache manager, in the plainest words."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

Texts = Callable[[int], Hashable]
"""Names the text that ends with a block, by the block's place in the request."""


@dataclass(eq=False)
class Block:
    """A block of the KV cache."""

    users: int = 0
    text: Hashable = None
    """What it holds the keys and values of, where it is full and may be found again."""


@dataclass(eq=False)
class Job:
    """One request and what has become of it."""

    arrived_s: float
    prompt: int
    output: int
    generated: int = 0
    computed: int = 0
    goal: int = 0
    """Tokens to compute before it decodes: the prompt, and after a preemption all so far."""
    texts: Texts = hash
    blocks: list[Block] = field(default_factory=list)
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


class ReferenceEngine:
    """Schedules requests, one engine step at a time.

    Args:
        blocks: Blocks of the KV cache.
        block_size: Tokens a block.
        token_budget: Tokens of a step.
        caching: Whether full blocks are found again by later requests.
    """

    def __init__(self, blocks: int, block_size: int, token_budget: int, caching: bool) -> None:
        self.block_size = block_size
        self.token_budget = token_budget
        self.caching = caching
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.free: deque[Block] = deque(Block() for _ in range(blocks))
        self.cached: dict[Hashable, list[Block]] = {}
        self.work: list[tuple[Job, int]] = []
        self.preemptions = 0
        self.queries = self.hits = 0

    def usage(self) -> float:
        used = sum(1 for block in self.in_use())
        return used / (used + len(self.free))

    def in_use(self) -> set[Block]:
        return {block for job in self.running for block in job.blocks}

    def _blocks_for(self, tokens: int) -> int:
        return math.ceil(tokens / self.block_size)

    def _new_block(self) -> Block:
        """Takes the next free block, and forgets what it held."""
        block = self.free.popleft()
        if block.text is not None:
            same = self.cached[block.text]
            same.remove(block)
            if not same:
                del self.cached[block.text]
            block.text = None
        assert block.users == 0
        block.users = 1
        return block

    def _allocate(self, job: Job, new_tokens: int) -> bool:
        missing = self._blocks_for(job.computed + new_tokens) - len(job.blocks)
        if missing > len(self.free):
            return False
        job.blocks.extend(self._new_block() for _ in range(missing))
        if self.caching:
            for place in range((job.computed + new_tokens) // self.block_size):
                block = job.blocks[place]
                if block.text is None:
                    block.text = job.texts(place)
                    self.cached.setdefault(block.text, []).append(block)
        return True

    def _found(self, job: Job) -> list[Block]:
        """Returns the cached blocks that a request begins with, all but its last token at most."""
        found: list[Block] = []
        if self.caching:
            for place in range((job.goal - 1) // self.block_size):
                same = self.cached.get(job.texts(place))
                if not same:
                    break
                found.append(same[0])
        return found

    def release(self, job: Job) -> None:
        """Gives a request's blocks back; those that can be found again are reused last."""
        unknown = []
        for block in reversed(job.blocks):
            block.users -= 1
            if block.users == 0:
                if block.text is None:
                    unknown.append(block)
                else:
                    self.free.append(block)
        self.free.extendleft(reversed(unknown))
        job.blocks = []
        assert len(set(self.free)) == len(self.free), "a block was freed twice"

    def _preempt(self) -> Job:
        victim = self.running.pop()
        self.release(victim)
        victim.computed = 0
        victim.goal = victim.prompt + victim.generated
        victim.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(victim)
        return victim

    def schedule(self, limit: int) -> list[tuple[Job, int]]:
        """Returns the tokens that each request computes in the next step.

        Args:
            limit: Requests that may run at once.
        """
        budget = self.token_budget
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
        while not preempted and budget > 0 and self.waiting and len(self.running) < limit:
            job = self.waiting[0]
            job.goal = job.prompt + job.generated
            found = self._found(job)
            idle = [block for block in found if block.users == 0]
            if self._blocks_for(job.goal) - len(found) + len(idle) > len(self.free):
                break
            if job.preemptions == 0:
                self.queries += job.goal if self.caching else 0
                self.hits += len(found) * self.block_size
            for block in idle:
                self.free.remove(block)
            for block in found:
                block.users += 1
            job.blocks = found
            job.computed = len(found) * self.block_size
            job.seen_prompt = max(job.seen_prompt, min(job.computed, job.prompt))
            tokens = min(job.goal - job.computed, budget)
            assert self._allocate(job, tokens)
            self.waiting.popleft()
            self.running.append(job)
            work.append((job, tokens))
            budget -= tokens
        self.work = work
        return work
