"""Drives the plug-in's scheduler by itself: ``python scheduling.py MODEL async|sync MODE [ROLE]``.

vLLM switches asynchronous scheduling off on CPUs, so no server of these tests can run it. Here
vLLM's own asynchronous scheduler, with the plug-in around it, is fed with made-up tokens, one
step ahead of them, as on a GPU. With a ROLE (``kv_producer``, ``kv_consumer``) a KV connector that
moves nothing takes part. Runs in the environment with vLLM; prints what happened as JSON.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from typing import Any

import torch
from pals_batch_limit.scheduler import BatchLimitScheduler
from vllm import SamplingParams
from vllm.config import (
    CacheConfig,
    KVTransferConfig,
    ModelConfig,
    SchedulerConfig,
    VllmConfig,
)
from vllm.v1.core.kv_cache_utils import KVCacheConfig, KVCacheGroupSpec
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

REQUESTS, OUTPUT, BLOCK = 24, 40, 16


def build(model: str, asynchronous: bool, role: str | None) -> Any:
    """A scheduler as the engine core would make it."""
    config = VllmConfig(
        model_config=ModelConfig(model=model, dtype="bfloat16", max_model_len=512),
        scheduler_config=SchedulerConfig(
            max_num_seqs=16,
            max_num_batched_tokens=512,
            max_model_len=512,
            is_encoder_decoder=False,
            enable_chunked_prefill=True,
            async_scheduling=asynchronous,
        ),
        cache_config=CacheConfig(block_size=BLOCK, enable_prefix_caching=False),
        kv_transfer_config=None if role is None else KVTransferConfig(
            kv_connector="StubConnector",
            kv_connector_module_path="stub_connector",
            kv_role=role,
        ),
    )  # fmt: skip
    config.scheduler_config.async_scheduling = asynchronous  # the CPU platform unset it
    config.cache_config.num_gpu_blocks = 4000
    spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=1, dtype=torch.float32)
    cache = KVCacheConfig(4000, [], [KVCacheGroupSpec(["layer"], spec)])
    return BatchLimitScheduler(
        config, cache, StructuredOutputManager(config), block_size=BLOCK, log_stats=True
    )


def run(scheduler: Any, ahead: int, mode: str) -> dict[str, Any]:
    """Lowers the limit in the middle; returns running requests by step, and tokens by request."""
    for number in range(REQUESTS):
        parameters = SamplingParams(max_tokens=OUTPUT, ignore_eos=True)
        parameters.update_from_generation_config({}, 0)
        scheduler.add_request(Request(f"r{number}", [20] * 30, parameters, None))
    running, scheduled, tokens = [], [], dict.fromkeys((f"r{n}" for n in range(REQUESTS)), 0)
    flight: deque[Any] = deque()
    preempted, preempt = [], scheduler._preempt_request

    def noted(request: Any, *arguments: Any, **more: Any) -> None:
        preempted.append(request.request_id)
        preempt(request, *arguments, **more)

    scheduler._preempt_request = noted
    step = 0
    while scheduler.has_requests() or flight:
        step += 1
        assert step < 5000, "the scheduler does not finish"
        if step == 10:
            scheduler.limits.change({"max_num_seqs": 3, "mode": mode}, len(scheduler.running))
        if scheduler.has_requests():
            output = scheduler.schedule()
            running.append(len(scheduler.running))
            scheduled.append(len(output.num_scheduled_tokens))
            flight.append(output)
        if len(flight) > ahead or not scheduler.has_requests():
            output = flight.popleft()
            names = list(output.num_scheduled_tokens)
            # A prompt that is not computed whole yields no token.
            sampled = [
                [] if name in scheduler.requests and _is_prefill(scheduler, name) else [7]
                for name in names
            ]
            answer = ModelRunnerOutput(
                req_ids=names,
                req_id_to_index={name: index for index, name in enumerate(names)},
                sampled_token_ids=sampled,
            )
            for outputs in scheduler.update_from_output(output, answer).values():
                for item in outputs.outputs:
                    tokens[item.request_id] += len(item.new_token_ids)
    return {
        "scheduler": scheduler.limits_state()["scheduler"],
        "running": running,
        "scheduled": scheduled,
        "tokens": tokens,
        "effect_delay_s": scheduler.limits_state()["effect_delay_s"],
        "drops": bool(scheduler.preemption._how),
        "preempted": preempted,
    }


def _is_prefill(scheduler: Any, name: str) -> bool:
    return bool(scheduler.requests[name].is_prefill_chunk)


if __name__ == "__main__":
    asynchronous = sys.argv[2] == "async"
    role = sys.argv[4] if len(sys.argv) > 4 else None
    result = run(build(sys.argv[1], asynchronous, role), int(asynchronous), sys.argv[3])
    sys.stdout.write("\n" + json.dumps(result) + "\n")
