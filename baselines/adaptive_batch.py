"""An ablation of PALS: the batch limit adapts, the cap stays at its highest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.pals.controller import Pals


@dataclass(kw_only=True)
class AdaptiveBatch(Pals):
    """Adaptive Batch of arXiv:2605.21427 §4: model and feedback choose the batch limit only.

    The cap is the highest of the grid, or the highest that the power budget leaves.
    """

    @override
    def candidates(self, caps: int) -> NDArray[np.bool_]:
        mask = super().candidates(caps)
        mask[: caps - 1] = False
        return mask
