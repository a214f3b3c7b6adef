"""The scheduler's rules, one by one, on requests small enough to work out by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from support.server_specs import Given, Request, make_server

from envs.knobs import Knobs
from envs.simulator.server import SimulatedServer
from envs.simulator.step_model import resolve_step
from envs.telemetry import Telemetry

CAP_W = 400.0
FINE_S = 1e-4
"""Shorter than any step: no step begins and ends within it."""


def started(requests: list[Request], **server: Any) -> SimulatedServer:
    made = make_server(Given(requests), exact_steps=True, **server)
    made.reset(0)
    return made


def step_s(
    server: SimulatedServer, decode: int = 0, context: int = 0, chunk: int = 0, done: int = 0
) -> float:
    """Time of one step: sequences that decode, and a chunk behind tokens done before."""
    pairs = sum(range(done + 1, done + chunk + 1))
    model = server.server_spec.spec.step_model
    time_s = resolve_step(
        model, float(decode), float(context), float(chunk), float(pairs), CAP_W, 1.0
    )
    return float(time_s[0])


def watch(server: SimulatedServer, seconds: float, every_s: float = FINE_S) -> list[Telemetry]:
    return [server.advance(every_s) for _ in range(round(seconds / every_s))]


def total(rows: list[Telemetry], name: str) -> float:
    return float(sum(getattr(row, name) for row in rows))


def test_a_prompt_is_computed_in_chunks_of_the_token_budget() -> None:
    server = started([(0.0, 700, 1)], max_num_batched_tokens=256)
    telemetry = server.advance(5.0)
    chunks = [(256, 0), (256, 256), (188, 512)]
    expected = sum(step_s(server, chunk=chunk, done=done) for chunk, done in chunks)
    assert telemetry.ttft_p50_s == pytest.approx(expected, rel=1e-12)
    assert telemetry.e2e_p50_s == telemetry.ttft_p50_s
    assert (telemetry.prompt_tokens, telemetry.output_tokens) == (700, 1)
    assert telemetry.tpot_samples == 0


def test_the_first_token_comes_with_the_prompt_and_each_later_one_with_a_step() -> None:
    server = started([(0.0, 100, 6)])
    telemetry = server.advance(5.0)
    first = step_s(server, chunk=100)
    later = [step_s(server, decode=1, context=100 + n) for n in range(1, 6)]
    assert telemetry.ttft_p50_s == pytest.approx(first, rel=1e-12)
    assert telemetry.tpot_p50_s == pytest.approx(sum(later) / 5, rel=1e-12)
    assert telemetry.e2e_p50_s == pytest.approx(first + sum(later), rel=1e-12)
    assert telemetry.output_tokens == 6


def test_those_that_decode_come_before_prompts_in_the_token_budget() -> None:
    """With a budget of 8 and one sequence decoding, a prompt of 21 gets 7 tokens a step."""
    server = started([(0.0, 4, 500), (0.05, 21, 1)], max_num_batched_tokens=8, max_num_seqs=8)
    decoded = 0
    while server.advance(FINE_S).arrivals == 0 or decoded == 0:
        decoded += 1
    rows = []
    while not rows or rows[-1].finished == 0:
        rows.append(server.advance(FINE_S))
    steps = [row for row in rows if row.prompt_tokens]
    assert [row.prompt_tokens for row in steps] == [7, 7, 7]
    assert [row.output_tokens for row in steps] == [1, 1, 2]


def test_requests_are_served_in_the_order_they_came() -> None:
    """The short one behind the long one waits, though it would fit the batch."""
    server = started([(0.0, 40, 200), (0.001, 900, 20), (0.002, 10, 5)], max_num_seqs=2)
    rows = watch(server, 3.0, 0.001)
    finished = [index for index, row in enumerate(rows) if row.finished]
    assert total(rows, "finished") == 3
    assert rows[finished[0]].waiting + rows[finished[0]].running == 2  # the second one ended
    assert max(row.running for row in rows) == 2


def test_many_prompts_fraction_a_step_and_the_last_one_is_cut() -> None:
    requests = [(0.0, 100, 2)] * 5
    server = started(requests, max_num_batched_tokens=230)
    rows = watch(server, 1.0)
    prompts = [row.prompt_tokens for row in rows if row.prompt_tokens]
    # 100 + 100 + 30; then two decode: 70 + 100 + 58; then 42 of the last
    assert prompts == [230, 228, 42]
    assert total(rows, "finished") == 5


def test_a_request_waits_until_all_of_its_prompt_fits() -> None:
    """Ten blocks: the first takes six, so a prompt of five waits though its chunk would fit."""
    requests = [(0.0, 90, 6), (0.001, 80, 2)]
    server = started(requests, kv_blocks=10, max_num_batched_tokens=64)
    rows = watch(server, 1.0)
    first_end = next(index for index, row in enumerate(rows) if row.finished)
    assert all(row.running <= 1 for row in rows[: first_end + 1])
    assert all(row.preemptions == 0 for row in rows)
    assert total(rows, "finished") == 2


def test_the_newest_is_preempted_and_computes_prompt_and_output_again() -> None:
    """Six blocks of 16: two prompts of 40 take three each, and both need a fourth."""
    server = started([(0.0, 40, 40), (0.0, 40, 40)], kv_blocks=6)
    rows = watch(server, 2.0)
    assert total(rows, "preemptions") == 1
    lost = next(index for index, row in enumerate(rows) if row.preemptions)
    # Each has 9 tokens: 40 + 8 are cached, three full blocks, and the next needs a fourth.
    assert total(rows[: lost + 1], "output_tokens") in (18, 19)
    assert (rows[lost].running, rows[lost].waiting) == (1, 1)
    assert rows[lost].prefill_backlog_tokens == 0  # its first token is out
    back = next(index for index in range(lost, len(rows)) if rows[index].running == 2 or
                rows[index].waiting == 0)  # fmt: skip
    assert total(rows[: back + 1], "finished") == 1
    assert total(rows, "prompt_tokens") == 80
    assert total(rows, "output_tokens") == 80
    assert total(rows, "finished") == 2
    assert total(rows, "ttft_samples") > 0


def test_recomputing_takes_the_time_of_all_tokens_so_far() -> None:
    """The preempted one ends when the other has, plus its tokens again, plus the rest."""
    server = started([(0.0, 40, 40), (0.0, 40, 40)], kv_blocks=6)
    telemetry = server.advance(5.0)
    together = _two_prompts(server, 40)
    for tokens in range(1, 9):
        together += step_s(server, decode=2, context=2 * (40 + tokens))
    alone = sum(step_s(server, decode=1, context=40 + tokens) for tokens in range(9, 40))
    again = step_s(server, chunk=49)
    rest = sum(step_s(server, decode=1, context=40 + tokens) for tokens in range(10, 40))
    assert telemetry.e2e_p50_s == pytest.approx(together + alone, rel=1e-12)
    assert telemetry.e2e_p99_s == pytest.approx(together + alone + again + rest, rel=1e-12)


def _two_prompts(server: SimulatedServer, tokens: int) -> float:
    pairs = 2 * sum(range(1, tokens + 1))
    model = server.server_spec.spec.step_model
    return float(resolve_step(model, 0.0, 0.0, 2.0 * tokens, float(pairs), CAP_W, 1.0)[0])


def test_the_preempted_come_back_before_those_that_never_ran() -> None:
    requests = [(0.0, 40, 40), (0.0, 40, 40), (0.001, 10, 2)]
    server = started(requests, kv_blocks=6)
    rows = watch(server, 2.0)
    # Two run at most: the third, which would fit, waits behind the one that was preempted.
    assert max(row.running for row in rows[: _when(rows, "preemptions")]) == 2
    lost = _when(rows, "preemptions")
    first_end = _when(rows, "finished")
    assert lost < first_end
    assert all(row.running == 1 and row.waiting == 2 for row in rows[lost:first_end])


def _when(rows: list[Telemetry], name: str) -> int:
    return next(index for index, row in enumerate(rows) if getattr(row, name))


@pytest.mark.parametrize("jump", [True, False])
def test_a_lowered_batch_limit_drains_and_admits_nobody_while_above(jump: bool) -> None:
    requests = [(0.0, 20, 100 + 10 * index) for index in range(24)]
    requests += [(0.1, 20, 50)] * 20
    server = make_server(Given(requests), exact_steps=not jump, max_num_seqs=24)
    server.reset(0)
    server.advance(0.2)
    server.apply(Knobs(CAP_W, 6, None))
    rows = watch(server, 3.0, 0.002)
    running = [row.running for row in rows]
    assert running[0] == 24, "nobody is thrown out"
    assert total(rows, "preemptions") == 0
    below = next(index for index, count in enumerate(running) if count <= 6)
    assert below > 20, "it takes time to drain"
    assert all(after <= before for before, after in pairwise(running[: below + 1]))
    assert all(row.waiting >= 20 for row in rows[:below])
    assert max(running[below:]) == 6
    assert total(rows, "finished") > 18, "and goes on at the new limit"


def test_a_raised_batch_limit_is_used_at_the_next_step() -> None:
    server = started([(0.0, 20, 400)] * 20, max_num_seqs=16)
    server.apply(Knobs(CAP_W, 2, None))
    assert server.advance(0.2).running == 2
    server.apply(Knobs(CAP_W, 16, None))
    assert server.advance(0.02).running == 16


def test_a_request_longer_than_the_context_is_rejected_at_its_arrival() -> None:
    server = started([(0.0, 500, 524), (0.1, 500, 525), (0.2, 1, 1)])  # gpt2: 1024 tokens
    telemetry = server.advance(10.0)
    assert (telemetry.arrivals, telemetry.rejected, telemetry.finished) == (3, 1, 2)
    assert telemetry.prompt_tokens == 501


def test_a_request_longer_than_the_whole_cache_is_rejected() -> None:
    server = started([(0.0, 100, 60), (0.1, 100, 61)], kv_blocks=10)
    telemetry = server.advance(10.0)
    assert (telemetry.rejected, telemetry.finished) == (1, 1)
    assert telemetry.kv_cache_usage == 0.0


def test_a_closed_loop_keeps_its_number_in_flight_and_skips_what_is_refused() -> None:
    requests = [(0.0, 30, 20), (0.0, 30, 2000), (0.0, 30, 20)] * 200
    server = make_server(Given(requests, concurrency=5), exact_steps=True, max_num_seqs=3)
    server.reset(0)
    for _ in range(20):
        telemetry = server.advance(0.1)
        assert telemetry.running + telemetry.waiting == 5
        assert telemetry.running == 3
        assert telemetry.rejected <= telemetry.arrivals / 2
    assert telemetry.finished > 0


def test_clients_that_are_all_refused_do_not_stop_time() -> None:
    """Ten requests that fit, then only ones that do not: the server ends up idle."""
    good = [(0.0, 30, 20)] * 10
    workload = Given(good + [(0.0, 900, 900)] * 600, concurrency=1)
    workload.endless = Given(good).endless  # type: ignore[method-assign]
    server = make_server(workload, exact_steps=True)
    server.reset(0)
    assert server.advance(2.0).finished == 10
    telemetry = server.advance(1.0)
    assert telemetry.running == 0
    assert telemetry.rejected > 0
