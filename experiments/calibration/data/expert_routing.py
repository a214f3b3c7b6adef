"""How many experts the routings of a kernel benchmark touch.

AIConfigurator times routed experts under synthetic routings and notes only their names:
``balanced`` spreads the visits evenly; ``power_law_<alpha>`` gives each expert a share drawn from a
power law with that exponent. The rank with most visits is the one that is timed.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_DRAWS = 12
BALANCED = "balanced"
_POWER_LAW = "power_law_"
_FEW_VISITS = (0.01, 2.0)
_MOST_FRACTION = 0.8


@cache
def routing(
    distribution: str, tokens: int, top_k: int, experts: int, ranks: int
) -> tuple[float, float]:
    """Returns ``(experts touched, visits)`` on the fullest of ``ranks`` GPUs.

    Args:
        distribution: Name of the routing.
        tokens: Tokens that are routed.
        top_k: Experts that each visits.
        experts: Experts, over all ranks.
        ranks: GPUs that hold an equal number of whole experts each.

    Raises:
        ValueError: There is no such routing.
    """
    visits = tokens * top_k
    if distribution == BALANCED:
        return min(experts, visits) / ranks, visits / ranks
    if not distribution.startswith(_POWER_LAW):
        raise ValueError(f"routing {distribution!r} is not known")
    alpha = float(distribution.removeprefix(_POWER_LAW))
    rng = np.random.default_rng(0)
    drawn = [_fullest(_loads(rng, alpha, tokens, visits, experts), ranks) for _ in range(_DRAWS)]
    touched, fullest = np.mean(drawn, axis=0)
    return float(touched), float(fullest)


def _loads(
    rng: np.random.Generator, alpha: float, tokens: int, visits: int, experts: int
) -> NDArray[np.float64]:
    """Draws the visits to each expert."""
    low, high = (1.0, _MOST_FRACTION * tokens) if visits > experts else _FEW_VISITS
    power = 1.0 - alpha
    share = (low**power + rng.random(experts) * (high**power - low**power)) ** (1.0 / power)
    loads: NDArray[np.float64] = np.minimum(np.round(share / share.sum() * visits), tokens)
    missing = int(visits - loads.sum())
    order = np.argsort(loads) if missing > 0 else np.argsort(-loads)
    for index in np.resize(order, abs(missing)):  # idle experts first, or the fullest
        loads[index] += np.sign(missing)
    return loads


def _fullest(loads: NDArray[np.float64], ranks: int) -> tuple[int, float]:
    by_rank = loads.reshape(ranks, -1)
    fullest = by_rank[by_rank.sum(axis=1).argmax()]
    return int((fullest > 0).sum()), float(fullest.sum())
