"""The knobs and the errors of the offline model, in the paper and here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from baselines.pals.predictor import FitReport
from envs.actions.base import PAPER_BATCHES
from envs.simulator.config import SimulatedServerConfig
from envs.simulator.gpus import GPUSpec
from experiments.figures.base import Row
from experiments.figures.text import FigureText

TARGETS = {"throughput_tok_s": "throughput", "power_w": "power"}
"""What the forest predicts."""


def rows(
    text: FigureText,
    gpu: GPUSpec,
    server: SimulatedServerConfig,
    tensors: Sequence[int],
    reports: Mapping[str, FitReport],
) -> list[Row]:
    """Returns the rows of the table."""
    caps = f"{gpu.power_cap_min_w:g} to {gpu.power_cap_max_w:g}"
    here = {
        "caps": _listed(f"{cap:g}" for cap in gpu.power_caps_w),
        "cap_range": caps,
        "batches": _listed(map(str, PAPER_BATCHES)),
        "tensors": _listed(map(str, tensors)),
        "experts": text.phrase("experts_here"),
        "replicas": text.phrase("replicas_here"),
        "alpha": f"{server.system_alpha:g}",
        "beta": f"{server.system_beta_w:g}",
    }
    table: list[Row] = [
        {"what": text.phrase(f"{key}_name"), "paper": text.phrase(f"{key}_paper"), "here": own}
        for key, own in here.items()
    ]
    for target, name in TARGETS.items():
        paper = text.claims[f"mape_{name}"].paper
        own = np.mean([report.mape[target] for report in reports.values()])
        table.append(
            {
                "what": f"held-out MAPE, {target}",
                "paper": f"{100 * paper:.1f} %",
                "here": f"{100 * own:.1f} %",
            }
        )
    return table


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values)
