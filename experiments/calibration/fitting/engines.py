"""What is different in versions of the engine that no published table of a GPU type covers.

Host time is a property of the engine's version more than of the GPU. Servers of the tables
prepare a step, then run it; from vLLM 0.14 on the host prepares a step while the GPU works on the
one before (asynchronous scheduling), and samples without sorting the vocabulary.
"""

from __future__ import annotations

TABLES = "vllm-0.11"
"""Version that the published tables were made with, as far as they say."""

LATER: dict[str, dict[str, float]] = {
    "vllm-0.14": {
        "host_overlap": 0.8,
        "sequence_s": 8e-6,
        "sampling_s": 1e-6,
        "mixed_step_s": 3.2e-3,
        "eager_layer_s": 0.44e-3,
        "eager_moe_layer_s": 0.87e-3,
    }
}
"""Coefficients by the first version that they hold for: fitted to decode and prefill steps of
vLLM 0.26 on an H100 (``docs/measurements/h100``), at the measured clocks and with even routing, all
other coefficients as the published tables gave them. They are times of the host, so that other GPU
types take them as they are."""
