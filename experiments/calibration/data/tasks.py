"""Request lengths of the measured workloads, where the tables do not give them.

Prompt lengths of the ML.ENERGY tasks are pinned here because throughput at a given batch
hardly tells them apart from the prefill efficiency. The spread of output lengths follows from
rows whose KV cache was full: batch times mean context is then the cache's capacity.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Request lengths of a workload.

    Attributes:
        prompt_tokens: Mean prompt length.
        prompt_spread: Standard deviation of the prompt length's logarithm.
        output_variation: Standard deviation of the output length over its mean.
    """

    prompt_tokens: float
    prompt_spread: float
    output_variation: float


TASKS = {
    "lm-arena-chat": Task(265.0, 1.5, 0.9),
    "gpqa": Task(253.0, 0.25, 0.3),
    "sourcegraph-fim": Task(1500.0, 0.6, 0.6),
    "chat": Task(260.0, 1.2, 0.8),
    "code": Task(130.0, 0.6, 0.8),
}
"""Tasks of ``mlenergy-v3`` (the first three) and ``mlenergy-v2``."""

VISION_TASKS = frozenset({"image-chat", "video-chat", "audio-chat"})
"""Tasks whose encoders and host-side decoding the simulator does not model."""
