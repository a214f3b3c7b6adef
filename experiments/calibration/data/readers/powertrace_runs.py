"""The runs that powertrace-sim published: what is known of each beside its readings.

Its aggregates, its load steps and its times to first token are of the same servers; this is the
one table of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from experiments.calibration.data.specifications import find_gpu, find_model

DATASET = "powertrace"
GPUS = {"A100-SXM4-80GB": "a100_sxm4_80gb_500w", "H100-SXM5-80GB": "h100_sxm"}
"""GPU types by their name in the data: the A100 boards reach 497 W in long prompts."""
MODELS = {
    "Qwen3-8B": "qwen3_8b",
    "Gemma-4-26B-A4B": "gemma4_26b_a4b",
    "Llama-3.1-70B": "llama31_70b",
}
"""Names of its models in the catalogue."""
HIGHEST_CLOCKS_MHZ = {"h100_sxm": 1830.0}
"""Highest clock that the site allows, where it is not the highest there is."""
GPUS_PER_NODE = 8
STEP_TOKENS = 8192
"""Prompt tokens of one step at most."""


@dataclass(frozen=True)
class Run:
    """One server.

    Attributes:
        gpu: GPU type, by its name in the data.
        model: Model, by its name in the data.
        tensor: Tensor-parallel GPUs.
        engine: Version of the engine, where the model needs one; empty for the calibration's own.
        prompt_tokens: Usual length of a prompt, or of the part of one that a step computes.
        counts_late: Whether prompt tokens are counted when a long prompt ends, so that an
            interval's tokens are not those that it computed.
        running: Requests that decode on average (``aggregates.csv``).
        context: Tokens that each of them has cached.
    """

    gpu: str
    model: str
    tensor: int
    engine: str = ""
    prompt_tokens: float = 450.0
    counts_late: bool = False
    running: float = 0.0
    context: float = 430.0

    @property
    def gpu_spec(self) -> GPUSpec:
        """GPU type."""
        return find_gpu(GPUS[self.gpu])

    @property
    def model_spec(self) -> ModelSpec:
        """Model."""
        return find_model(MODELS[self.model])

    @property
    def parallelism(self) -> Parallelism:
        """How the model is spread."""
        return Parallelism(self.tensor, gpus_per_node=GPUS_PER_NODE)


A100, H100 = GPUS
RUNS = {
    "q8_a100_r2p5": Run(A100, "Qwen3-8B", 1, running=7.0),
    "q8_a100_burst": Run(A100, "Qwen3-8B", 1),
    "q8_a100_agentic": Run(A100, "Qwen3-8B", 1, prompt_tokens=STEP_TOKENS, counts_late=True),
    "gemma26b_a100_tp2": Run(A100, "Gemma-4-26B-A4B", 2, "vllm-0.19", running=10.0),
    "q8_h100_r4": Run(H100, "Qwen3-8B", 1, running=6.6),
    "l70b_h100_tp4": Run(H100, "Llama-3.1-70B", 4),
}
"""Runs by name."""


def clock_limit(gpu: GPUSpec) -> float:
    """Returns the highest clock that the site allows, as a fraction of the highest there is."""
    return HIGHEST_CLOCKS_MHZ.get(gpu.name, gpu.sm_clock_max_mhz) / gpu.sm_clock_max_mhz
