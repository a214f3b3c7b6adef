"""Evaluates the errors of the offline model, its importances and the power of a node."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from baselines.pals.predictor import INPUTS, FitReport
from envs.simulator.config import SimulatedServerConfig
from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    SensitivityCase,
    evaluate,
    interval_of,
)
from experiments.figures.plot_marks import model_label
from experiments.figures.table1.rows import TARGETS
from experiments.figures.text import FigureText

_ORDER = ["max_num_seqs", "power_cap_w", "tensor_parallel"]
"""The paper's order of importance."""


def error_claims(text: FigureText, reports: Mapping[str, FitReport], folds: int) -> list[Claim]:
    """Evaluates the held-out errors; in direction only where ours are smaller."""
    claims = []
    for target, name in TARGETS.items():
        paper = text.claims[f"mape_{name}"].paper
        errors = {model: report.mape[target] for model, report in reports.items()}
        ours = interval_of(list(errors.values()))
        verdict = evaluate(paper, ours, 0.0)
        if verdict == DIRECTION and ours.low > paper:
            verdict = NOT_REPRODUCED
        cases = [SensitivityCase(model_label(m), error) for m, error in errors.items()]
        claims.append(text.evaluated(f"mape_{name}", ours, verdict, sensitivity=cases, folds=folds))
    return claims


def importance_claim(text: FigureText, reports: Mapping[str, FitReport]) -> Claim:
    """Evaluates the order of importance; in direction where only the first knob agrees."""
    mean = {
        name: float(np.mean([r.importance["tokens_per_joule"][name] for r in reports.values()]))
        for name in INPUTS
    }
    order = sorted(mean, key=lambda name: -mean[name])
    verdict = NOT_REPRODUCED
    if order[0] == _ORDER[0]:
        verdict = REPRODUCED if order[:3] == _ORDER else DIRECTION
    return text.evaluated(
        "importance",
        mean["max_num_seqs"],
        verdict,
        sensitivity=[SensitivityCase(name, value) for name, value in mean.items()],
        order=", ".join(f"{name} {mean[name]:.2f}" for name in order[:3]),
    )


def node_claims(text: FigureText, server: SimulatedServerConfig) -> list[Claim]:
    """Reports alpha and beta of a node's power, which nothing here can confirm."""
    inputs = {"alpha": float(server.system_alpha), "beta": float(server.system_beta_w)}
    return [text.evaluated(name, value, NOT_REPRODUCED) for name, value in inputs.items()]
