"""Where each number of a step model lies in its vector.

Names ending in ``_S`` hold seconds (per step, token, sequence or expert as noted), in ``_J``
joules, in ``_W`` watts. All are per GPU.
"""

from __future__ import annotations

TABLE_CELLS = 256
"""Cells of each table over the clock."""

# Time that does not depend on the clock.
HOST_S = 0  # per step: host, and latency of collectives
MIXED_S = 1  # per step that computes prompt tokens
SEQUENCE_S = 2  # per decoding sequence
TRAFFIC_S = 3  # per token: links between GPUs
# Fixed time on the GPU, of which a share follows the clock.
LAUNCH_S = 4  # per step, while little power is drawn
BLOCK_S = 5  # per step, while kernels run
SAMPLING_S = 6  # per decoding sequence, while kernels run
LAUNCH_CLOCK_FRACTION = 7
# Memory time and compute time at the highest clock.
OVERLAP = 8
DENSE_MEMORY_S = 9  # per step
DENSE_COMPUTE_S = 10  # per token
HEAD_MEMORY_S = 11  # per step
HEAD_COMPUTE_S = 12  # per sampled row
ACTIVATION_S = 13  # per token
KV_MEMORY_S = 14  # per cached token
KV_COMPUTE_S = 15  # per cached token
STATE_S = 16  # per decoding sequence: recurrent state
PAIR_COMPUTE_S = 17  # per pair of prompt token and token attended to
WINDOW_TOKENS = 18
WINDOW_FRACTION = 19
# Mixture of experts.
EXPERTS = 20
TOP_K = 21
TOKEN_DENSITY = 22  # top-k / (experts x popularity spread)
POPULARITY_SPREAD = 23
EXPERTS_PER_RANK = 24
RANK_MAXIMUM = 25  # expected maximum of a standard normal over the ranks
RANKS = 26
EXPERT_MEMORY_S = 27  # per expert touched
EXPERT_COMPUTE_S = 28  # per choice routed to this rank
# Energy above static power.
BUSY_W = 29
WEIGHT_J = 30  # per step
KV_J = 31  # per cached token
STATE_J = 32  # per decoding sequence
TOKEN_J = 33  # per token
ROW_J = 34  # per sampled row
PAIR_J = 35  # per pair
EXPERT_J = 36  # per expert touched
CHOICE_J = 37  # per choice routed to this rank
MISSED_BY_ONE = 43  # fraction of the experts that one token does not visit
MEETING = 44  # replicas whose tokens meet at the same experts
# Power.
IDLE_W = 38
STATIC_W = 39
FLOOR_W = 40
CAP_MAX_W = 41
MIN_CLOCK = 42
# Tables over the clock, TABLE_CELLS + 1 entries each.
POWER_CURVE = 48
INVERSE_CURVE = POWER_CURVE + TABLE_CELLS + 1
SLOWDOWN = INVERSE_CURVE + TABLE_CELLS + 1
COEFFICIENTS = SLOWDOWN + TABLE_CELLS + 1
"""Length of the vector."""
