"""An ablation of PALS: the cap adapts, the batch limit stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.pals.controller import Pals
from envs.errors import ConfigurationError
from envs.quantities import Batch


@dataclass(kw_only=True)
class AdaptiveCap(Pals):
    """Adaptive Cap of arXiv:2605.21427 §4: model and feedback choose the power cap only.

    Attributes:
        max_num_seqs: The batch limit, one of the grid; ``None`` takes its highest.
    """

    max_num_seqs: Batch | None = None

    @override
    def candidates(self, caps: int) -> NDArray[np.bool_]:
        """Marks the knobs with the fixed batch limit.

        Raises:
            ConfigurationError: The batch limit is not in the grid.
        """
        limits = self.context.grid.max_num_seqs
        wanted = limits[-1] if self.max_num_seqs is None else self.max_num_seqs
        if wanted not in limits:
            raise ConfigurationError(
                f"controller.max_num_seqs: must be one of {list(limits)}, got {wanted}"
            )
        mask = super().candidates(caps)
        mask[:, [limit != wanted for limit in limits]] = False
        return mask
