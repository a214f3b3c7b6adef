"""Effects a reader will look for: each is there, and with the sign it has on hardware."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from support.server_specs import make_server, make_server_spec

from envs.knobs import Knobs
from envs.simulator.server import SimulatedServer
from envs.simulator.step_model import resolve_step

FREE_W = 1e6


class Cost(NamedTuple):
    time_s: float
    power_w: float


def cost(
    server_spec: Any, *, decode: int = 0, context: int = 0, prefill: int = 0, clock: float = 1.0
) -> Cost:
    pairs = 0.5 * prefill * (prefill + 1)
    found = resolve_step(
        server_spec.spec.step_model,
        float(decode),
        float(context),
        float(prefill),
        pairs,
        FREE_W,
        clock,
    )
    return Cost(found[0], found[1])


def test_prompts_are_bound_by_compute_and_decoding_by_memory() -> None:
    """A prompt token costs a fraction of a decoded one, and feels the clock much more."""
    server_spec = make_server_spec("poisson_gsm8k", model="llama2_7b")
    prompt, token = cost(server_spec, prefill=2000), cost(server_spec, decode=1, context=500)
    assert prompt.time_s / 2000 < 0.05 * token.time_s
    assert prompt.power_w > 1.2 * token.power_w
    slower = {
        "prompt": cost(server_spec, prefill=2000, clock=0.6).time_s / prompt.time_s,
        "decode": cost(server_spec, decode=1, context=500, clock=0.6).time_s / token.time_s,
    }
    assert slower["prompt"] > 1.4
    assert slower["decode"] < 1.25


def test_a_batch_fractions_the_weights_until_compute_or_caches_cost_more() -> None:
    server_spec = make_server_spec("poisson_gsm8k", model="llama2_7b")
    alone, together = cost(server_spec, decode=1), cost(server_spec, decode=32)
    assert together.time_s < 1.5 * alone.time_s
    assert cost(server_spec, decode=32, context=32 * 3000).time_s > 1.3 * together.time_s


def test_more_tokens_touch_more_experts_until_all_are_touched() -> None:
    """Weights read grow with the batch as E(1 - (1 - k/E)^T) does, so a MoE gains less."""
    experts = make_server_spec("poisson_gsm8k", model="mixtral_8x7b", tensor_parallel=4)
    dense = make_server_spec("poisson_gsm8k", model="llama2_7b", tensor_parallel=4)
    times = [cost(experts, decode=batch).time_s for batch in range(1, 65)]
    growth = np.diff(times)
    assert growth[0] > 3 * growth[-1]
    ratio = {
        "experts": times[15] / times[0],
        "dense": cost(dense, decode=16).time_s / cost(dense, decode=1).time_s,
    }
    assert ratio["experts"] > 1.5 * ratio["dense"]


def test_communication_does_not_follow_the_clock() -> None:
    """Four GPUs spend part of a step on the links, so a low clock slows them down less."""
    one = make_server_spec("poisson_gsm8k", model="olmoe_1b_7b", tensor_parallel=1)
    four = make_server_spec("poisson_gsm8k", model="olmoe_1b_7b", tensor_parallel=4)
    slower = [
        cost(server_spec, prefill=2000, clock=0.5).time_s / cost(server_spec, prefill=2000).time_s
        for server_spec in (one, four)
    ]
    assert slower[1] < slower[0] - 0.05
    assert cost(four, prefill=2000).time_s > cost(one, prefill=2000).time_s / 4


# --------------------------------------------------------- where the batch limit matters


class Outcome(NamedTuple):
    tokens_per_joule: float
    throughput_tok_s: float
    slo_violation_rate: float
    preemptions: float
    tpot_p99_s: float


def outcome(server: SimulatedServer, cap_w: float, batch: int, tpot_slo_s: float) -> Outcome:
    server.reset(1)
    server.set_warmup(30.0)
    server.set_slos(10.0, tpot_slo_s)
    server.apply(Knobs(cap_w, batch, None))
    rows = [server.advance(0.5) for _ in range(1200)]
    tokens = sum(row.prompt_tokens + row.output_tokens for row in rows)
    return Outcome(
        tokens_per_joule=tokens / sum(row.energy_gpu_j for row in rows),
        throughput_tok_s=sum(row.output_tokens for row in rows) / 600.0,
        slo_violation_rate=server.latency().slo_violation_rate or 0.0,
        preemptions=sum(row.preemptions for row in rows),
        tpot_p99_s=max(row.tpot_p99_s for row in rows),
    )


def test_a_smaller_batch_keeps_a_tpot_slo_at_a_cap_where_the_largest_breaks_it() -> None:
    """Both fit the demand, but the steps of a batch of 32 stay short; the cap saves the power."""
    workload = {"base": "poisson_gsm8k", "load": 0.6}
    server = make_server(workload, model="mixtral_8x7b", tensor_parallel=4)
    small, large = (outcome(server, 230.0, batch, 0.033) for batch in (32, 64))
    assert small.slo_violation_rate < 0.05 < large.slo_violation_rate
    free = outcome(server, 400.0, 64, 0.033)
    assert small.tokens_per_joule > 1.1 * free.tokens_per_joule
    assert small.throughput_tok_s > 0.98 * free.throughput_tok_s


@pytest.mark.parametrize("cap_w", [200.0, 400.0])
def test_a_smaller_batch_is_as_fast_and_more_efficient_when_the_cache_runs_out(
    cap_w: float,
) -> None:
    """Long answers outgrow the cache: a batch of 64 computes prompts and answers again."""
    workload = {"base": "closed_loop", "concurrency": 128, "lengths": "long_output"}
    server = make_server(workload, model="llama2_7b", gpu="a100_sxm4_40gb")
    small, large = (outcome(server, cap_w, batch, math.inf) for batch in (32, 64))
    assert large.preemptions > 3 * small.preemptions
    assert small.tokens_per_joule > 1.01 * large.tokens_per_joule
    assert small.throughput_tok_s > 0.99 * large.throughput_tok_s, "no slower, where no cap binds"
    assert small.tpot_p99_s < large.tpot_p99_s
