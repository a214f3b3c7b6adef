"""Continuous batching as vLLM v1 does it, compiled: one control interval of one server.

Each engine step schedules the running sequences first (one token per decoding sequence, a
chunk for the one whose prompt is not finished), then admits waiting requests in order of
arrival while the token budget, the batch limit and the KV blocks allow. When blocks run out,
the newest running request is preempted: it loses its blocks, goes to the front of the queue
and recomputes prompt and output later. A batch limit below the number running admits nobody
until enough have finished.

Data-parallel replicas are one pool: each does its even share of every step.

While the batch cannot change (no prompt to compute, nobody to admit, nobody about to finish)
several steps are taken at once, with the time of the one in the middle: the step time grows
by equal amounts as the context does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from envs.latency import LATENCY_BUCKETS, LATENCY_MIN_S, LATENCY_RATIO
from envs.simulator import layout as at
from envs.simulator.layout import (
    DONE,
    NEEDS_REQUESTS,
    SAMPLES,
)
from envs.simulator.step_model import idle_power_w, resolve_step
from envs.simulator.views import float_table, floats, int_table, ints

_LOG_RATIO = math.log(LATENCY_RATIO)
_NEVER = np.int64(1) << 60
_SETTLED_W = 0.5
_REFUSALS = 64
"""Clients of a closed loop that are refused in a row before they try again a step later."""


@njit(cache=True, nogil=True, inline="always")
def _blocks(tokens: int, block_size: int) -> int:
    return (tokens + block_size - 1) // block_size


@njit(cache=True, nogil=True)
def _bucket(seconds: float) -> int:
    if seconds <= LATENCY_MIN_S:
        return 0
    index = 1 + int(math.log(seconds / LATENCY_MIN_S) / _LOG_RATIO)
    return min(index, LATENCY_BUCKETS - 1)


@njit(cache=True, nogil=True, inline="always")
def _generated(slots: Any, finish_at: Any, slot: int, iteration: int) -> int:
    """Tokens a decoding request has produced so far."""
    return int(slots[at.OUTPUT, slot]) - (finish_at[slot] - iteration)


@njit(cache=True, nogil=True, inline="always")
def _copy_slot(source: Any, here: int, target: Any, there: int) -> None:
    for column in range(at.NUM_SLOT_FIELDS):
        target[column, there] = source[column, here]


@njit(cache=True, nogil=True, inline="always")
def _keep_sample(samples: Any, counts: Any, kind: int, column: int, value: float) -> None:
    samples[kind, counts[column] % SAMPLES] = value
    counts[column] += 1


@njit(cache=True, nogil=True)
def _ingest(counts: Any, times: Any, lengths: Any, now: float) -> int:
    """Moves requests that have arrived by ``now`` into the queue, or rejects them."""
    while counts[at.NEXT] < counts[at.END]:
        if times[counts[at.NEXT]] > now:
            return DONE
        _accept(counts, times, lengths, times[counts[at.NEXT]])
    return DONE if counts[at.EXHAUSTED] else NEEDS_REQUESTS


@njit(cache=True, nogil=True)
def _accept(counts: Any, times: Any, lengths: Any, arrived_s: float) -> bool:
    """Takes the next request of the stream; returns whether it fits the model's context."""
    source = counts[at.NEXT]
    counts[at.NEXT] += 1
    counts[at.ARRIVALS] += 1
    prompt, output = lengths[source, 0], lengths[source, 1]
    if prompt + output > counts[at.MAX_MODEL_LEN]:
        counts[at.REJECTED] += 1
        return False
    tail = counts[at.TAIL]
    times[tail] = arrived_s
    lengths[tail, 0] = prompt
    lengths[tail, 1] = output
    counts[at.TAIL] += 1
    counts[at.QUEUED_PROMPT] += prompt
    return True


@njit(cache=True, nogil=True)
def _refill_loop(counts: Any, times: Any, lengths: Any, now: float) -> int:
    """Closed loop: keeps the set number of requests in flight."""
    refused = 0
    while counts[at.IN_FLIGHT] < counts[at.CONCURRENCY]:
        if counts[at.NEXT] >= counts[at.END]:
            return DONE if counts[at.EXHAUSTED] else NEEDS_REQUESTS
        if _accept(counts, times, lengths, now):
            counts[at.IN_FLIGHT] += 1
            refused = 0
            continue
        refused += 1
        if refused == _REFUSALS:
            return DONE
    return DONE


@njit(cache=True, nogil=True)
def _forget_context(counts: Any, phases: Any, tokens: int) -> None:
    """Takes a decoding request with so many cached tokens out of the sums over the batch."""
    phases[(tokens - counts[at.ITERATION]) % counts[at.BLOCK_SIZE]] -= 1
    counts[at.CONTEXT] -= tokens
    counts[at.DECODING] -= 1


@njit(cache=True, nogil=True)
def _remove_decoding(counts: Any, slots: Any, finish_at: Any, slot: int) -> None:
    """Closes the gap that a decoding request leaves; a prompt under way stays behind them."""
    last = counts[at.DECODING]  # already one less than before
    if slot != last:
        _copy_slot(slots, last, slots, slot)
        finish_at[slot] = finish_at[last]
    counts[at.RUNNING] -= 1
    if counts[at.RUNNING] > last:
        _copy_slot(slots, last + 1, slots, last)


@njit(cache=True, nogil=True)
def _preempt_newest(counts: Any, slots: Any, stack: Any, finish_at: Any, phases: Any) -> None:
    """Takes the newest running request out of the batch and puts it before the queue."""
    newest = counts[at.RUNNING] - 1
    place = counts[at.STACKED]
    if newest >= counts[at.DECODING]:
        tokens = int(slots[at.COMPUTED, newest])
        _copy_slot(slots, newest, stack, place)
        counts[at.RUNNING] -= 1
    else:
        for slot in range(counts[at.DECODING]):
            if slots[at.ORDER, slot] > slots[at.ORDER, newest]:
                newest = slot
        generated = _generated(slots, finish_at, newest, counts[at.ITERATION])
        tokens = int(slots[at.PROMPT, newest]) + generated - 1
        slots[at.GENERATED, newest] = generated
        _copy_slot(slots, newest, stack, place)
        _forget_context(counts, phases, tokens)
        _remove_decoding(counts, slots, finish_at, newest)
    counts[at.BLOCKS_USED] -= _blocks(tokens, counts[at.BLOCK_SIZE])
    stack[at.COMPUTED, place] = 0
    stack[at.TO_COMPUTE, place] = stack[at.PROMPT, place] + stack[at.GENERATED, place]
    counts[at.STACKED] += 1
    counts[at.PREEMPTIONS] += 1


@njit(cache=True, nogil=True)
def _next_finish(counts: Any, finish_at: Any) -> None:
    soonest = _NEVER
    for slot in range(counts[at.DECODING]):
        soonest = min(soonest, finish_at[slot])
    counts[at.NEXT_FINISH] = soonest


@njit(cache=True, nogil=True)
def _finish(
    numbers: Any, counts: Any, slots: Any, finish_at: Any, phases: Any, samples: Any,
    totals: Any, now: float,
) -> None:  # fmt: skip
    """Removes the requests that have produced their last token."""
    iteration = counts[at.ITERATION]
    slot = 0
    while slot < counts[at.DECODING]:
        if finish_at[slot] != iteration:
            slot += 1
            continue
        tokens = int(slots[at.PROMPT, slot] + slots[at.OUTPUT, slot]) - 1
        counts[at.BLOCKS_USED] -= _blocks(tokens, counts[at.BLOCK_SIZE])
        _record_finished(numbers, counts, slots, slot, samples, totals, now)
        _forget_context(counts, phases, tokens)
        _remove_decoding(counts, slots, finish_at, slot)
    _next_finish(counts, finish_at)


@njit(cache=True, nogil=True)
def _record_finished(
    numbers: Any, counts: Any, slots: Any, slot: int, samples: Any, totals: Any, now: float
) -> None:
    counts[at.FINISHED] += 1
    if counts[at.CONCURRENCY] > 0:
        counts[at.IN_FLIGHT] -= 1
    arrived, first = slots[at.ARRIVED_S, slot], slots[at.FIRST_TOKEN_S, slot]
    _keep_sample(samples, counts, 2, at.E2E_SAMPLES, now - arrived)
    missed = first - arrived > numbers[at.TTFT_SLO_S]
    tpot = -1.0
    if slots[at.OUTPUT, slot] > 1:
        tpot = (now - first) / (slots[at.OUTPUT, slot] - 1)
        _keep_sample(samples, counts, 1, at.TPOT_SAMPLES, tpot)
        missed = missed or tpot > numbers[at.TPOT_SLO_S]
    if missed:
        counts[at.SLO_MISSED] += 1
    if arrived >= numbers[at.WARMUP_S]:
        counts[at.TOTAL_FINISHED] += 1
        counts[at.TOTAL_SLO_MISSED] += missed
        if tpot >= 0.0:
            totals[1, _bucket(tpot)] += 1
        totals[2, _bucket(now - arrived)] += 1


@njit(cache=True, nogil=True)
def _first_token(
    numbers: Any, counts: Any, slots: Any, slot: int, samples: Any, totals: Any, now: float
) -> None:
    slots[at.FIRST_TOKEN_S, slot] = now
    ttft = now - slots[at.ARRIVED_S, slot]
    _keep_sample(samples, counts, 0, at.TTFT_SAMPLES, ttft)
    if slots[at.ARRIVED_S, slot] >= numbers[at.WARMUP_S]:
        totals[0, _bucket(ttft)] += 1


@njit(cache=True, nogil=True)
def _complete(
    numbers: Any, counts: Any, slots: Any, finish_at: Any, phases: Any, samples: Any, totals: Any
) -> None:
    """Applies what the step (or the run of equal steps) in flight has brought about."""
    now = numbers[at.STEP_END]
    numbers[at.NOW] = now
    numbers[at.STEP_END] = math.inf
    iterations = counts[at.STEP_ITERATIONS]
    decoding = counts[at.DECODING]
    counts[at.ITERATION] += iterations
    counts[at.OUTPUT_TOKENS] += iterations * decoding
    counts[at.CONTEXT] += iterations * decoding
    iteration = counts[at.ITERATION]
    # Prompts come behind the decoding sequences; those that are done join them in order.
    for slot in range(decoding, counts[at.RUNNING]):
        computed = slots[at.COMPUTED, slot]
        new_prompt = min(computed, slots[at.PROMPT, slot]) - slots[at.COUNTED, slot]
        if new_prompt > 0:
            counts[at.PROMPT_TOKENS] += int(new_prompt)
            slots[at.COUNTED, slot] += new_prompt
        if computed < slots[at.TO_COMPUTE, slot]:
            break
        slots[at.GENERATED, slot] += 1
        counts[at.OUTPUT_TOKENS] += 1
        if slots[at.FIRST_TOKEN_S, slot] < 0.0:
            _first_token(numbers, counts, slots, slot, samples, totals, now)
        finish_at[slot] = iteration + int(slots[at.OUTPUT, slot] - slots[at.GENERATED, slot])
        counts[at.NEXT_FINISH] = min(counts[at.NEXT_FINISH], finish_at[slot])
        tokens = int(slots[at.TO_COMPUTE, slot])
        phases[(tokens - iteration) % counts[at.BLOCK_SIZE]] += 1
        counts[at.CONTEXT] += tokens
        counts[at.DECODING] += 1
    if counts[at.NEXT_FINISH] <= iteration:
        _finish(numbers, counts, slots, finish_at, phases, samples, totals, now)


@njit(cache=True, nogil=True)
def _admit(
    counts: Any, slots: Any, stack: Any, times: Any, lengths: Any, budget: int
) -> tuple[int, float]:
    """Admits waiting requests; returns the prompt tokens scheduled and their pairs."""
    scheduled = 0
    pairs = 0.0
    size = counts[at.BLOCK_SIZE]
    while budget > 0 and counts[at.RUNNING] < counts[at.MAX_SEQS]:
        resumed = counts[at.STACKED] > 0
        if resumed:
            total = int(stack[at.TO_COMPUTE, counts[at.STACKED] - 1])
        elif counts[at.HEAD] < counts[at.TAIL]:
            total = lengths[counts[at.HEAD], 0]
        else:
            break
        # vLLM admits a request only if all of it fits, though it allocates the first chunk alone.
        if _blocks(total, size) > counts[at.BLOCKS] - counts[at.BLOCKS_USED]:
            break
        chunk = min(total, budget)
        needed = _blocks(chunk, size)
        slot = counts[at.RUNNING]
        if resumed:
            counts[at.STACKED] -= 1
            _copy_slot(stack, counts[at.STACKED], slots, slot)
        else:
            head = counts[at.HEAD]
            slots[at.PROMPT, slot] = total
            slots[at.OUTPUT, slot] = lengths[head, 1]
            slots[at.GENERATED, slot] = 0
            slots[at.TO_COMPUTE, slot] = total
            slots[at.COUNTED, slot] = 0
            slots[at.ARRIVED_S, slot] = times[head]
            slots[at.FIRST_TOKEN_S, slot] = -1.0
            counts[at.HEAD] += 1
            counts[at.QUEUED_PROMPT] -= total
            slots[at.ORDER, slot] = counts[at.ADMITTED]
            counts[at.ADMITTED] += 1
        slots[at.COMPUTED, slot] = chunk
        counts[at.BLOCKS_USED] += needed
        counts[at.RUNNING] += 1
        budget -= chunk
        scheduled += chunk
        pairs += 0.5 * chunk * (chunk + 1.0)
    return scheduled, pairs


@njit(cache=True, nogil=True, inline="always")
def _blocks_for_iteration(counts: Any, phases: Any, ahead: int) -> int:
    """New KV blocks that the decoding sequences need ``ahead`` iterations from now."""
    return int(phases[(-(counts[at.ITERATION] + ahead)) % counts[at.BLOCK_SIZE]])


@njit(cache=True, nogil=True)
def _blocks_for_run(counts: Any, phases: Any, iterations: int) -> int:
    """New KV blocks that the decoding sequences need over several iterations."""
    needed = 0
    for ahead in range(iterations):
        needed += _blocks_for_iteration(counts, phases, ahead)
    return needed


@njit(cache=True, nogil=True)
def _jump_length(numbers: Any, counts: Any, times: Any, phases: Any, now: float) -> tuple[int, int]:
    """Returns how many equal steps may be taken at once, and the blocks they need."""
    limit = counts[at.NEXT_FINISH] - counts[at.ITERATION]
    step_s = numbers[at.ITERATION_S]
    free = counts[at.BLOCKS] - counts[at.BLOCKS_USED]
    needed = _blocks_for_iteration(counts, phases, 0)
    if counts[at.JUMP] == 0 or step_s <= 0.0 or limit <= 1:
        return 1, needed
    limit = min(limit, np.int64((numbers[at.UNTIL] - now) / step_s))
    waiting = counts[at.HEAD] < counts[at.TAIL] or counts[at.STACKED] > 0
    joinable = not waiting and counts[at.RUNNING] < counts[at.MAX_SEQS]
    if joinable and counts[at.CONCURRENCY] == 0 and counts[at.NEXT] < counts[at.END]:
        until_next = times[counts[at.NEXT]] - now
        limit = min(limit, np.int64(until_next / step_s) + 1)
    taken = 1
    while taken < limit:
        more = _blocks_for_iteration(counts, phases, taken)
        if needed + more > free:
            break
        needed += more
        taken += 1
    return taken, needed


@njit(cache=True, nogil=True)
def _settle_cap(numbers: Any, elapsed_s: float) -> None:
    """Moves the cap in force towards the cap asked for, with its time constant."""
    gap = numbers[at.CAP_IN_FORCE_W] - numbers[at.CAP_W]
    if gap == 0.0:
        return
    tau = numbers[at.CAP_TAU_S]
    gap = gap * math.exp(-elapsed_s / tau) if tau > 0.0 else 0.0
    if abs(gap) < _SETTLED_W:
        gap = 0.0
    numbers[at.CAP_IN_FORCE_W] = numbers[at.CAP_W] + gap


@njit(cache=True, nogil=True)
def _start_step(
    model: Any, numbers: Any, counts: Any, slots: Any, stack: Any, finish_at: Any,
    times: Any, lengths: Any, phases: Any,
) -> bool:  # fmt: skip
    """Schedules one step, or a run of equal ones; returns False when there is nothing to do."""
    now = numbers[at.NOW]
    preempted = False
    needed = _blocks_for_iteration(counts, phases, 0) if counts[at.DECODING] > 0 else 0
    while needed > counts[at.BLOCKS] - counts[at.BLOCKS_USED]:
        _preempt_newest(counts, slots, stack, finish_at, phases)
        preempted = True
        needed = _blocks_for_iteration(counts, phases, 0)
    if preempted:
        _next_finish(counts, finish_at)
    budget = counts[at.MAX_STEP_TOKENS] - counts[at.DECODING]
    prefill = 0
    pairs = 0.0
    if counts[at.RUNNING] > counts[at.DECODING]:  # the one prompt that is not finished
        slot = counts[at.DECODING]
        size = counts[at.BLOCK_SIZE]
        done = int(slots[at.COMPUTED, slot])
        chunk = min(int(slots[at.TO_COMPUTE, slot]) - done, budget)
        more = _blocks(done + chunk, size) - _blocks(done, size)
        if more + needed > counts[at.BLOCKS] - counts[at.BLOCKS_USED]:
            _preempt_newest(counts, slots, stack, finish_at, phases)
            preempted = True
        elif chunk > 0:
            pairs = chunk * (done + 0.5 * (chunk + 1.0))
            slots[at.COMPUTED, slot] += chunk
            counts[at.BLOCKS_USED] += more
            budget -= chunk
            prefill = chunk
    counts[at.BLOCKS_USED] += needed
    if not preempted:
        admitted, more_pairs = _admit(counts, slots, stack, times, lengths, budget)
        prefill += admitted
        pairs += more_pairs
    decoding = counts[at.DECODING]
    if decoding == 0 and prefill == 0:
        return False
    iterations = 1
    share = 1.0 / numbers[at.REPLICAS]
    if prefill == 0 and counts[at.RUNNING] == decoding and not preempted:
        counts[at.BLOCKS_USED] -= needed
        iterations, needed = _jump_length(numbers, counts, times, phases, now)
        if iterations > 1 and numbers[at.CAP_IN_FORCE_W] != numbers[at.CAP_W]:
            # A cap that moves and binds changes from step to step; one that does not, changes
            # nothing at all.
            lower_w = min(numbers[at.CAP_IN_FORCE_W], numbers[at.CAP_W])
            context = counts[at.CONTEXT] + decoding * (1.0 + 0.5 * (iterations - 1))
            _, _, _, binding = resolve_step(
                model, decoding * share, context * share, 0.0, 0.0, lower_w,
                numbers[at.CLOCK_LIMIT],
            )  # fmt: skip
            if binding > 0.0:
                iterations, needed = 1, _blocks_for_iteration(counts, phases, 0)
        counts[at.BLOCKS_USED] += needed
    while True:
        context = counts[at.CONTEXT] + decoding * (1.0 + 0.5 * (iterations - 1))
        time_s, power_w, clock, binding = resolve_step(
            model, decoding * share, context * share, prefill * share, pairs * share,
            numbers[at.CAP_IN_FORCE_W], numbers[at.CLOCK_LIMIT],
        )  # fmt: skip
        if prefill > 0:
            break
        slower = time_s > numbers[at.ITERATION_S]
        numbers[at.ITERATION_S] = time_s
        if iterations == 1 or not slower:
            break
        # The guess of the step time that the length of the jump rests on was too short.
        counts[at.BLOCKS_USED] -= needed
        shorter, needed = _jump_length(numbers, counts, times, phases, now)
        counts[at.BLOCKS_USED] += needed
        if shorter >= iterations:
            counts[at.BLOCKS_USED] -= needed
            needed = _blocks_for_run(counts, phases, iterations)
            counts[at.BLOCKS_USED] += needed
            break
        iterations = shorter
    counts[at.STEP_ITERATIONS] = iterations
    counts[at.STEPS] += iterations
    numbers[at.STEP_END] = now + iterations * time_s
    numbers[at.STEP_POWER_W] = power_w
    numbers[at.STEP_CLOCK] = clock
    numbers[at.STEP_BINDING] = binding
    return True


@njit(cache=True, nogil=True)
def _pass_time(numbers: Any, until: float, power_w: float, clock: float, binding: float) -> None:
    """Lets time pass at constant power, up to ``until``."""
    elapsed = until - numbers[at.NOW]
    if elapsed <= 0.0:
        return
    numbers[at.GPU_ENERGY_J] += power_w * elapsed
    numbers[at.CLOCK_SECONDS] += clock * elapsed
    numbers[at.BINDING_SECONDS] += binding * elapsed
    _settle_cap(numbers, elapsed)
    numbers[at.NOW] = until


@njit(cache=True, nogil=True)
def run_until(
    model: Any, numbers: Any, counts: Any, slots: Any, stack: Any, finish_at: Any,
    times: Any, lengths: Any, phases: Any, samples: Any, totals: Any,
) -> int:  # fmt: skip
    """Runs one server until ``numbers[UNTIL]``.

    Returns:
        ``DONE``, or ``NEEDS_REQUESTS`` when the buffer of requests has run dry: refill it and
        call again.
    """
    until = numbers[at.UNTIL]
    while True:
        if numbers[at.STEP_END] < math.inf:
            end = min(numbers[at.STEP_END], until)
            _pass_time(
                numbers, end, numbers[at.STEP_POWER_W], numbers[at.STEP_CLOCK],
                numbers[at.STEP_BINDING],
            )  # fmt: skip
            if numbers[at.STEP_END] > until:
                if counts[at.CONCURRENCY] > 0:
                    return DONE
                return _ingest(counts, times, lengths, until)
            _complete(numbers, counts, slots, finish_at, phases, samples, totals)
        now = numbers[at.NOW]
        if counts[at.CONCURRENCY] > 0:
            if _refill_loop(counts, times, lengths, now) == NEEDS_REQUESTS:
                return NEEDS_REQUESTS
        else:
            if _ingest(counts, times, lengths, now) == NEEDS_REQUESTS:
                return NEEDS_REQUESTS
        if now >= until:
            return DONE
        if not _start_step(model, numbers, counts, slots, stack, finish_at, times, lengths, phases):
            idle_until = until
            if counts[at.CONCURRENCY] == 0 and counts[at.NEXT] < counts[at.END]:
                idle_until = min(until, times[counts[at.NEXT]])
            limit = min(numbers[at.CLOCK_LIMIT], 1.0)
            _pass_time(numbers, idle_until, idle_power_w(model), limit, 0.0)


@njit(cache=True, nogil=True)
def _sort(samples: Any, kind: int, count: int) -> None:
    """Sorts the first samples of a kind in place; a handful is the rule."""
    if count > 64:
        samples[kind, :count].sort()
        return
    for end in range(1, count):
        value = samples[kind, end]
        position = end
        while position > 0 and samples[kind, position - 1] > value:
            samples[kind, position] = samples[kind, position - 1]
            position -= 1
        samples[kind, position] = value


@njit(cache=True, nogil=True)
def _percentile(
    sorted_samples: Any, count: int, times: Any, head: int, tail: int, now: float, q: float
) -> float:
    """Nearest-rank percentile of samples and of the ages of queued requests together."""
    waiting = tail - head
    rank = max(1, math.ceil(q * (count + waiting)))
    # The rank-th smallest takes `taken` samples and `rank - taken` of the youngest in the queue.
    low, high = max(0, rank - waiting), min(rank, count)
    while low < high:
        taken = (low + high) // 2
        if sorted_samples[taken] < now - times[tail - (rank - taken)]:
            low = taken + 1
        else:
            high = taken
    value = 0.0
    if low > 0:
        value = sorted_samples[low - 1]
    if rank - low > 0:
        value = max(value, now - times[tail - (rank - low)])
    return value


@njit(cache=True, nogil=True)
def _older_than(times: Any, head: int, tail: int, moment: float) -> int:
    """Counts queued requests that arrived before ``moment``."""
    low, high = head, tail
    while low < high:
        middle = (low + high) // 2
        if times[middle] < moment:
            low = middle + 1
        else:
            high = middle
    return low - head


@njit(cache=True, nogil=True)
def _overdue(
    numbers: Any, counts: Any, slots: Any, stack: Any, finish_at: Any, times: Any,
    head: int, since: float,
) -> int:  # fmt: skip
    """Counts unfinished requests, arrived since a moment, that are already past an SLO."""
    now = numbers[at.NOW]
    ttft_slo, tpot_slo = numbers[at.TTFT_SLO_S], numbers[at.TPOT_SLO_S]
    if ttft_slo == math.inf and tpot_slo == math.inf:
        return 0
    overdue = _older_than(times, head, counts[at.TAIL], now - ttft_slo)
    for index in range(counts[at.RUNNING] + counts[at.STACKED]):
        held, slot = slots, index
        if index >= counts[at.RUNNING]:
            held, slot = stack, index - counts[at.RUNNING]
        arrived, first = held[at.ARRIVED_S, slot], held[at.FIRST_TOKEN_S, slot]
        if arrived < since:
            continue
        if first < 0.0:
            overdue += now - arrived > ttft_slo
            continue
        generated = int(held[at.GENERATED, slot])
        if index < counts[at.DECODING]:
            generated = _generated(slots, finish_at, slot, counts[at.ITERATION])
        late = first - arrived > ttft_slo
        # Its mean so far, were the next token to come at this moment.
        overdue += late or now - first > tpot_slo * generated
    return overdue


@njit(cache=True, nogil=True)
def unfinished(
    numbers: Any, counts: Any, slots: Any, stack: Any, finish_at: Any, times: Any, totals: Any
) -> int:
    """Adds requests without a first token to ``totals`` with their age.

    Returns:
        Unfinished requests, arrived after the warm-up, that are already past an SLO.
    """
    now, warmup = numbers[at.NOW], numbers[at.WARMUP_S]
    head, tail = counts[at.HEAD], counts[at.TAIL]
    early = head + _older_than(times, head, tail, warmup)
    for index in range(early, tail):
        totals[0, _bucket(now - times[index])] += 1
    for index in range(counts[at.RUNNING] + counts[at.STACKED]):
        held, slot = slots, index
        if index >= counts[at.RUNNING]:
            held, slot = stack, index - counts[at.RUNNING]
        arrived = held[at.ARRIVED_S, slot]
        if held[at.FIRST_TOKEN_S, slot] < 0.0 and arrived >= warmup:
            totals[0, _bucket(now - arrived)] += 1
    return _overdue(numbers, counts, slots, stack, finish_at, times, early, warmup)


@njit(cache=True, nogil=True)
def observe(
    numbers: Any, counts: Any, slots: Any, stack: Any, finish_at: Any, times: Any, samples: Any,
    out: Any,
) -> None:  # fmt: skip
    """Writes the telemetry of the interval into ``out`` and starts the next interval."""
    now = numbers[at.NOW]
    duration = now - numbers[at.INTERVAL_START]
    head, tail = counts[at.HEAD], counts[at.TAIL]
    unfinished_prompts = counts[at.QUEUED_PROMPT]
    oldest = now
    if head < tail:
        oldest = times[head]
    # Requests that are neither queued nor have a first token: a few, counted with their age.
    for index in range(counts[at.DECODING], counts[at.RUNNING] + counts[at.STACKED]):
        held, slot = slots, index
        if index >= counts[at.RUNNING]:
            held, slot = stack, index - counts[at.RUNNING]
        if held[at.FIRST_TOKEN_S, slot] < 0.0:
            unfinished_prompts += int(held[at.PROMPT, slot])
            arrived = held[at.ARRIVED_S, slot]
            _keep_sample(samples, counts, 0, at.TTFT_SAMPLES, now - arrived)
            oldest = min(oldest, arrived)

    ttft_count = min(counts[at.TTFT_SAMPLES], SAMPLES)
    tpot_count = min(counts[at.TPOT_SAMPLES], SAMPLES)
    e2e_count = min(counts[at.E2E_SAMPLES], SAMPLES)
    _sort(samples, 0, ttft_count)
    _sort(samples, 1, tpot_count)
    _sort(samples, 2, e2e_count)
    ttft, tpot, e2e = samples[0], samples[1], samples[2]
    gpu_energy = numbers[at.GPU_ENERGY_J] * numbers[at.NUM_GPUS]
    power = gpu_energy / duration if duration > 0.0 else 0.0
    window = numbers[at.SENSOR_WINDOW_S]
    if window > 0.0 and duration > 0.0 and numbers[at.SENSOR_W] >= 0.0:
        share = min(1.0, duration / window)
        numbers[at.SENSOR_W] += share * (power - numbers[at.SENSOR_W])
    else:
        numbers[at.SENSOR_W] = power

    out[0] = now
    out[1] = duration
    out[2] = counts[at.PROMPT_TOKENS]
    out[3] = counts[at.OUTPUT_TOKENS]
    out[4] = counts[at.ARRIVALS]
    out[5] = counts[at.FINISHED]
    out[6] = counts[at.REJECTED]
    out[7] = counts[at.RUNNING]
    out[8] = tail - head + counts[at.STACKED]
    out[9] = unfinished_prompts
    out[10] = now - oldest
    out[11] = counts[at.BLOCKS_USED] / counts[at.BLOCKS]
    out[12] = counts[at.PREEMPTIONS]
    out[13] = counts[at.TTFT_SAMPLES] + tail - head
    for position, q in ((14, 0.5), (15, 0.95), (16, 0.99)):
        out[position] = 0.0
        if ttft_count + tail - head > 0:
            out[position] = _percentile(ttft, ttft_count, times, head, tail, now, q)
    out[17] = counts[at.TPOT_SAMPLES]
    for position, q in ((18, 0.5), (19, 0.95), (20, 0.99)):
        out[position] = 0.0
        if tpot_count > 0:
            out[position] = tpot[max(1, math.ceil(q * tpot_count)) - 1]
    out[21] = counts[at.E2E_SAMPLES]
    for position, q in ((22, 0.5), (23, 0.95), (24, 0.99)):
        out[position] = 0.0
        if e2e_count > 0:
            out[position] = e2e[max(1, math.ceil(q * e2e_count)) - 1]
    out[25] = counts[at.SLO_MISSED]
    out[26] = _overdue(numbers, counts, slots, stack, finish_at, times, head, -1.0)
    out[27] = numbers[at.SENSOR_W]
    out[28] = gpu_energy
    out[29] = numbers[at.ALPHA] * gpu_energy + numbers[at.BETA_W] * duration
    out[30] = 0.0
    out[31] = 0.0
    if duration > 0.0:
        out[30] = numbers[at.CLOCK_SECONDS] / duration * numbers[at.CLOCK_MAX_MHZ]
        out[31] = numbers[at.BINDING_SECONDS] / duration
    out[32] = numbers[at.CAP_W]
    out[33] = counts[at.MAX_SEQS] / numbers[at.REPLICAS]

    numbers[at.INTERVAL_START] = now
    numbers[at.GPU_ENERGY_J] = 0.0
    numbers[at.CLOCK_SECONDS] = 0.0
    numbers[at.BINDING_SECONDS] = 0.0
    for column in range(at.ARRIVALS, at.TOTAL_FINISHED):
        counts[column] = 0


@njit(cache=True, nogil=True)
def advance_one(index: int, addresses: Any, widths: Any) -> int:
    """Runs server ``index`` to the end of its interval and observes it.

    Args:
        index: Row of the server.
        addresses: Addresses of the state arrays, in the order of :data:`layout.ARRAYS`.
        widths: Widths of their rows, in the same order.
    """
    numbers = floats(addresses[1], index, at.NUM_NUMBERS)
    counts = ints(addresses[2], index, at.NUM_COUNTS)
    slots = float_table(addresses[3], index, at.NUM_SLOT_FIELDS, widths[3])
    stack = float_table(addresses[4], index, at.NUM_SLOT_FIELDS, widths[4])
    finish_at = ints(addresses[5], index, widths[5])
    times = floats(addresses[6], index, widths[6])
    samples = float_table(addresses[9], index, 3, SAMPLES)
    status = run_until(
        floats(addresses[0], index, widths[0]), numbers, counts, slots, stack, finish_at, times,
        int_table(addresses[7], index, widths[6], 2), ints(addresses[8], index, widths[8]),
        samples, int_table(addresses[10], index, 3, LATENCY_BUCKETS),
    )  # fmt: skip
    if status == DONE:
        out = floats(addresses[11], index, at.NUM_TELEMETRY)
        observe(numbers, counts, slots, stack, finish_at, times, samples, out)
    return status


@njit(cache=True, nogil=True, parallel=True)
def advance_many(pending: Any, status: Any, addresses: Any, widths: Any) -> None:
    """Runs the servers whose indices are in ``pending``, in parallel."""
    for position in prange(len(pending)):
        index = pending[position]
        status[index] = advance_one(index, addresses, widths)
