"""Turns a measured run into the kinds of engine steps it consisted of.

In a steady state with ``B`` sequences of mean output length ``L``, a step finishes and admits
``B / L`` requests on average, Poisson-distributed; the prompt tokens of a step are therefore a
compound Poisson sum of prompt lengths.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from experiments.calibration.data.measurement import StepKind
from experiments.calibration.data.tasks import Task

Floats = NDArray[np.float64]
_CELLS_PER_PROMPT = 24
_KINDS = 11
_MIDDLE = (0.4, 0.6)


def steady_steps(
    batch: float, output_tokens: float, task: Task, replicas: int = 1
) -> list[StepKind]:
    """Returns the steps of a server that keeps ``batch`` sequences running.

    Args:
        batch: Sequences that run at once, over all replicas.
        output_tokens: Mean output length.
        task: Request lengths.
        replicas: Data-parallel replicas in lockstep: each step is as long as its longest.
    """
    per_replica = batch / replicas
    in_flight = 0.5 * output_tokens * (1.0 + task.output_variation**2)
    context = per_replica * (task.prompt_tokens + in_flight)
    rate = round(per_replica / output_tokens, 6)
    tokens, fraction, middle = _prompt_tokens_per_step(rate, task.prompt_spread, replicas)
    attended = 0.5 * task.prompt_tokens * math.exp(task.prompt_spread**2)
    return [
        StepKind(
            decode_seqs=per_replica,
            context_tokens=context,
            prefill_tokens=count * task.prompt_tokens,
            prefill_pairs=count * task.prompt_tokens * attended,
            weight=weight,
            median_weight=in_middle,
        )
        for count, weight, in_middle in zip(tokens, fraction, middle, strict=True)
        if weight > 1e-9
    ]


def batch_steps(
    batch: float, prompt_tokens: float, output_tokens: float, budget: float
) -> list[StepKind]:
    """Returns the steps of a batch that is computed from its first prompt to its last token.

    Args:
        batch: Sequences of the batch.
        prompt_tokens: Length of every prompt.
        output_tokens: Length of every output.
        budget: Prompt tokens that a step may compute.
    """
    total = batch * prompt_tokens
    chunk = min(total, max(1.0, budget // prompt_tokens) * prompt_tokens)
    context = batch * (prompt_tokens + 0.5 * output_tokens)
    return [
        StepKind(batch, context, 0.0, 0.0, 1.0, 1.0),
        StepKind(0.0, 0.0, chunk, 0.5 * chunk * prompt_tokens, total / chunk / output_tokens, 0.0),
    ]


@cache
def _prompt_tokens_per_step(
    rate: float, spread: float, replicas: int
) -> tuple[Floats, Floats, Floats]:
    """Returns support (in mean prompt lengths), probability and fraction of the middle fifth."""
    chance = compound_poisson(rate, spread)
    cells: Floats = np.arange(len(chance), dtype=float)
    mean = float(chance @ cells)
    support: Floats = cells * (rate / mean if mean else 1.0)  # the grid must not change the mean
    if replicas > 1:
        chance = np.diff(np.cumsum(chance) ** replicas, prepend=0.0)
    return _gather(support, chance)


def compound_poisson(rate: float, spread: float) -> Floats:
    """Returns the distribution of a Poisson number of log-normal lengths of mean 1.

    Panjer's recursion on a grid of ``1 / 24``.

    Args:
        rate: Mean number of summands.
        spread: Standard deviation of the summands' logarithm.

    Returns:
        Probability of each multiple of the grid's step, from 0 on.
    """
    reach = rate * (1.0 + 6.0 / math.sqrt(max(rate, 0.05))) + 12.0
    cells = int(reach * _CELLS_PER_PROMPT)
    edges = (np.arange(cells + 1) + 0.5) / _CELLS_PER_PROMPT
    z = (np.log(edges) + 0.5 * spread**2) / spread / math.sqrt(2.0)
    below = np.array([0.5 * math.erfc(-x) for x in z])
    severity = np.diff(below, prepend=0.0)
    severity[1] += severity[0]  # a prompt has at least one token
    severity[0] = 0.0
    severity[-1] += 1.0 - below[-1]
    chance = np.zeros(cells + 1)
    chance[0] = math.exp(-rate)
    weighted = severity * np.arange(cells + 1)
    for n in range(1, cells + 1):
        chance[n] = rate / n * float(weighted[1 : n + 1] @ chance[n - 1 :: -1][:n])
    total: Floats = chance / chance.sum()
    return total


def _gather(support: Floats, chance: Floats) -> tuple[Floats, Floats, Floats]:
    """Gathers a fine distribution into few cells, which keep its mean."""
    below = np.cumsum(chance)
    low, high = _MIDDLE
    middle = np.clip(below, low, high) - np.clip(below - chance, low, high)
    rest = max(1e-12, 1.0 - chance[0])
    quantile = np.clip((below - 0.5 * chance - chance[0]) / rest, 0.0, 1.0 - 1e-9)
    cell = np.where(np.arange(len(chance)) == 0, 0, 1 + (quantile * (_KINDS - 1)).astype(int))
    fraction: Floats = np.bincount(cell, chance, _KINDS).astype(float)
    mean: Floats = np.bincount(cell, chance * support, _KINDS) / np.maximum(fraction, 1e-300)
    in_middle: Floats = np.bincount(cell, middle, _KINDS) / (high - low)
    return mean, fraction, in_middle
