"""The numbers of a step model, by name.

Names ending in ``_s`` hold seconds (per step, token, sequence or expert as noted), in ``_j``
joules, in ``_w`` watts. All are per GPU.
"""

from __future__ import annotations

from typing import Annotated

from envs.compiled.records import Floats, dtype_of, floats_of

TABLE_CELLS = 256
"""Cells of each table over the clock."""
_TABLE = floats_of(TABLE_CELLS + 1)


class StepModel:
    """What the time and the power of one engine step follow from."""

    # Time that does not depend on the clock.
    host_s: float  # per step: host, and latency of collectives
    mixed_s: float  # per step that computes prompt tokens
    sequence_s: float  # per decoding sequence
    traffic_s: float  # per token: links between GPUs

    # Fixed time on the GPU, of which a share follows the clock.
    launch_s: float  # per step, while little power is drawn
    block_s: float  # per step, while kernels run
    sampling_s: float  # per decoding sequence, while kernels run
    launch_clock_fraction: float

    # Memory time and compute time at the highest clock.
    overlap: float
    dense_memory_s: float  # per step
    dense_compute_s: float  # per token
    head_memory_s: float  # per step
    head_compute_s: float  # per sampled row
    activation_s: float  # per token
    kv_memory_s: float  # per cached token
    kv_compute_s: float  # per cached token
    state_s: float  # per decoding sequence: recurrent state
    pair_compute_s: float  # per pair of prompt token and token attended to
    window_tokens: float
    window_fraction: float

    # Mixture of experts.
    experts: float
    top_k: float
    token_density: float  # top-k / (experts x popularity spread)
    popularity_spread: float
    experts_per_rank: float
    rank_maximum: float  # expected maximum of a standard normal over the ranks
    ranks: float
    expert_memory_s: float  # per expert touched
    expert_compute_s: float  # per choice routed to this rank

    # Energy above static power.
    busy_w: float
    weight_j: float  # per step
    kv_j: float  # per cached token
    state_j: float  # per decoding sequence
    token_j: float  # per token
    row_j: float  # per sampled row
    pair_j: float  # per pair
    expert_j: float  # per expert touched
    choice_j: float  # per choice routed to this rank
    missed_by_one: float  # fraction of the experts that one token does not visit
    meeting: float  # replicas whose tokens meet at the same experts

    # Power.
    idle_w: float
    static_w: float
    floor_w: float
    cap_max_w: float
    min_clock: float

    # Tables over the clock, from the lowest to the highest.
    power_curve: Annotated[Floats, _TABLE]  # fraction of the power above the floor
    inverse_curve: Annotated[Floats, _TABLE]  # clock, over that fraction
    slowdown: Annotated[Floats, _TABLE]  # of memory reads


STEP_MODEL = dtype_of(StepModel)
