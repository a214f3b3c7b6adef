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

    # Time of the host.
    host_s: float  # per step
    mixed_s: float  # per step that computes prompt tokens
    sequence_s: float  # per decoding sequence
    host_overlap: float  # 0: before the GPU's time; 1: beside it

    # Time on the GPU that does not depend on the clock.
    links_s: float  # per step: latency of links between GPUs
    traffic_s: float  # per token: links between GPUs
    eager_s: float  # least time of a step of more than ...
    graph_tokens: float  # ... so many tokens

    # Fixed time on the GPU, of which a share follows the clock.
    launch_s: float  # per step, while little power is drawn
    kernel_s: float  # per step, while kernels run
    sampling_s: float  # per decoding sequence, while few are sampled and kernels run
    sampling_rows: float  # sequences from which on sampling gains from there being many
    row_s: float  # per decoding sequence: attention
    length_s: float  # per token of the mean context: attention
    moe_token_s: float  # per token
    launch_clock_fraction: float

    # Memory time and compute time at the highest clock.
    overlap: float
    dense_memory_s: float  # per step
    dense_memory_token_s: float  # per token
    dense_compute_s: float  # per step
    dense_compute_token_s: float  # per token
    head_memory_s: float  # per step
    head_compute_s: float  # per step
    head_compute_row_s: float  # per sampled row
    activation_s: float  # per token
    kv_memory_s: float  # per cached token
    kv_compute_s: float  # per cached token
    state_s: float  # per decoding sequence: recurrent state
    pair_compute_s: float  # per pair of prompt token and token attended to
    start_compute_s: float  # per prompt token
    wave_compute_s: float  # per root of the pairs, which is the prompt's length but for a factor
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
    expert_overlap: float
    expert_memory_s: float  # per expert touched
    expert_compute_s: float  # per choice routed to this rank
    expert_padding_s: float  # per expert touched: compute time of tiles that are not full

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
    warming: float  # fraction of a change of power that comes only as the chip warms
    min_clock: float

    # Tables over the clock, from the lowest to the highest.
    power_curve: Annotated[Floats, _TABLE]  # fraction of the power above the floor
    inverse_curve: Annotated[Floats, _TABLE]  # clock, over that fraction
    slowdown: Annotated[Floats, _TABLE]  # of memory reads


STEP_MODEL = dtype_of(StepModel)
