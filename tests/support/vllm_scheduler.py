"""Drives vLLM's own scheduler with made-up outputs; run by a Python that has vLLM.

Reads cases as JSON from standard input and writes, for every case, what each step computed
(``[[request, tokens], ...]``, in order), and how many tokens were looked up and found in the prefix
cache. No model is loaded and nothing is computed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
SHAPE = {
    "architectures": ["OPTForCausalLM"], "model_type": "opt", "vocab_size": 1000,
    "hidden_size": 64, "ffn_dim": 64, "word_embed_proj_dim": 64, "num_hidden_layers": 1,
    "num_attention_heads": 1, "max_position_embeddings": 100_000, "torch_dtype": "float32",
}  # fmt: skip


def make_scheduler(case: dict[str, Any], folder: str) -> Any:
    import torch
    from vllm.config import (
        CacheConfig,
        DeviceConfig,
        ModelConfig,
        ParallelConfig,
        SchedulerConfig,
        VllmConfig,
    )
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    model = ModelConfig(
        model=folder, skip_tokenizer_init=True, dtype="float32", max_model_len=case["context"]
    )
    cache = CacheConfig(
        block_size=case["block_size"],
        gpu_memory_utilization=0.9,
        enable_prefix_caching=case["caching"],
    )
    cache.num_gpu_blocks = case["blocks"] + 1  # one is the null block, which nobody gets
    config = VllmConfig(
        model_config=model,
        cache_config=cache,
        scheduler_config=SchedulerConfig(
            max_num_seqs=case["max_num_seqs"],
            max_num_batched_tokens=case["token_budget"],
            max_model_len=case["context"],
            enable_chunked_prefill=True,
            async_scheduling=case["async"],
            is_encoder_decoder=False,
        ),
        parallel_config=ParallelConfig(),
        device_config=DeviceConfig("cpu"),
    )
    spec = FullAttentionSpec(
        block_size=case["block_size"], num_kv_heads=1, head_size=1, dtype=torch.float32
    )
    return (AsyncScheduler if case["async"] else Scheduler)(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=case["blocks"] + 1,
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
        ),
        structured_output_manager=StructuredOutputManager(config),
        block_size=case["block_size"],
        log_stats=True,
    )


def run(case: dict[str, Any], folder: str) -> dict[str, Any]:
    """Returns what each step computes; an asynchronous one is scheduled a step ahead."""
    from vllm import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.request import Request

    scheduler = make_scheduler(case, folder)
    init_none_hash(sha256)
    hasher = get_request_block_hasher(case["block_size"], sha256) if case["caching"] else None
    queries = hits = 0
    limits = {int(step): limit for step, limit in case["limits"].items()}
    coming = list(enumerate(case["requests"]))
    in_flight: list[Any] = []
    steps = []

    def land(output: Any) -> None:
        ids = list(output.num_scheduled_tokens)
        texts = [case["requests"][int(name)][3] for name in ids]
        tokens = [[text] if done else [] for text, done in zip(texts, output.samples, strict=True)]
        scheduler.update_from_output(
            output,
            ModelRunnerOutput(
                req_ids=ids,
                req_id_to_index={name: index for index, name in enumerate(ids)},
                sampled_token_ids=tokens,
            ),
        )

    for step in range(case["steps"]):
        while coming and coming[0][1][0] <= step:
            index, (_, prompt, output, text) = coming.pop(0)
            tokens = [0] * case["shared"] + [text] * (prompt - case["shared"])
            params = SamplingParams(max_tokens=output, ignore_eos=True)
            scheduler.add_request(
                Request(
                    request_id=str(index), prompt_token_ids=tokens,
                    sampling_params=params, pooling_params=None, block_hasher=hasher,
                )
            )  # fmt: skip
        if step in limits:
            scheduler.max_num_active_reqs = limits[step]
        output = scheduler.schedule()
        # A request gives a token when all it has so far has been scheduled.
        output.samples = [
            not scheduler.requests[name].is_prefill_chunk for name in output.num_scheduled_tokens
        ]
        steps.append([(int(name), count) for name, count in output.num_scheduled_tokens.items()])
        stats = scheduler.kv_cache_manager.make_prefix_cache_stats()
        queries, hits = queries + stats.queries, hits + stats.hits
        in_flight.append(output)
        while len(in_flight) > int(case["async"]):
            land(in_flight.pop(0))
    return {"steps": steps, "queries": queries, "hits": hits}


def main() -> None:
    cases = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(SHAPE))
        found = [run(case, folder) for case in cases]
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
