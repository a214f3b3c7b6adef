"""Marks rows whose GPU waited for its host: they show software, not physics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from experiments.calibration.data.measurement import Measurement

SHORTFALL = 0.07
"""Fraction by which such a row draws less than one with less work."""
HOST_BOUND_GPU = "host-bound GPU"
"""Reason to keep such a row apart."""


def mark_host_bound(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Marks rows that draw too little power for their load, so that no fit uses them.

    More sequences, or longer contexts in decode-dominated work, give a GPU more to do. A row
    that draws more than 7 % less than one with the same model and GPUs, no more sequences and
    no longer contexts waited for its host. The rule looks at measured power only.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for index, m in enumerate(measurements):
        groups[(m.gpu.name, m.model.name, m.parallelism)].append(index)
    marked = list(measurements)
    for members in groups.values():
        for index in members:
            row = measurements[index]
            if row.power_w is None or row.apart:
                continue
            less_work = [
                other.power_w
                for other in (measurements[i] for i in members)
                if other.power_w is not None and _does_less(other, row)
            ]
            if row.power_w < (1.0 - SHORTFALL) * max(less_work, default=0.0):
                marked[index] = replace(row, apart=HOST_BOUND_GPU)
    return marked


def _does_less(other: Measurement, row: Measurement) -> bool:
    if other.batch > row.batch * 1.001:
        return False
    if other.run == row.run:
        return True
    return (
        _decode_dominated(other)
        and _decode_dominated(row)
        and other.context_per_seq <= row.context_per_seq
    )


def _decode_dominated(m: Measurement) -> bool:
    """Whether fewer prompt than output tokens are computed."""
    prompt = sum(step.weight * step.prefill_tokens for step in m.steps)
    output = sum(step.weight * step.decode_seqs for step in m.steps)
    return prompt < output
