"""Tables 1 and 2: knobs and models, as they are configured here; and the model's errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
from hydra import compose

from baselines.pals.predictor import FitReport, ForestConfig, Predictor
from envs import catalog
from experiments.figures.base import NAMES, Made, PaperFigure
from experiments.figures.claims import Claim
from experiments.figures.study import Study
from experiments.profiles import find_profile


@dataclass(kw_only=True)
class Knobs(PaperFigure):
    """Table 1: the knobs and their values, and what §3 says of them."""

    title: str = "Knobs"

    def make(self, study: Study) -> Made:
        """See :meth:`PaperFigure.make`."""
        gpu = catalog.build("gpu", "a100_sxm4_80gb")
        action = catalog.build("action", "grid")
        server = compose("profile").server
        data = pd.DataFrame(
            [
                ("power cap", "at run time", ", ".join(f"{cap:g} W" for cap in gpu.power_caps_w)),
                ("batch size", "at run time", ", ".join(map(str, action.max_num_seqs))),
                ("TP", "static", "1, 2, 4"),
                ("EP", "static", "server.expert_parallel"),
                ("DP", "static", "server.data_parallel"),
            ],
            columns=["knob", "adjusted", "values"],
        )
        assumed = "assumed as the paper states it: without a node's own meter there is nothing "
        assumed += "to fit it to"
        return Made(
            data,
            claims=[
                Claim(
                    "system_alpha", "§3.1", "alpha of the node's power", (1.05, 1.05),
                    server.system_alpha, server.system_alpha, server.system_alpha,
                    "conf/server", assumed,
                ),
                Claim(
                    "system_beta", "§3.1", "beta of the node's power, W", (340.0, 350.0),
                    server.system_beta_w, server.system_beta_w, server.system_beta_w,
                    "conf/server", assumed,
                ),
            ],
        )  # fmt: skip


@dataclass(kw_only=True)
class Models(PaperFigure):
    """Table 2: parameters by our specifications; and the errors of PALS's forests (§3.2).

    Attributes:
        profiled: Models whose profiles the forests are fitted to.
    """

    profiled: list[str] = field(default_factory=list)
    title: str = "Models"

    def make(self, study: Study) -> Made:
        """See :meth:`PaperFigure.make`."""
        rows = []
        for name, title in NAMES.items():
            spec = catalog.build("model", name)
            rows.append(
                {
                    "model": title,
                    "total_billions": round(spec.total_params / 1e9, 2),
                    "active_billions": round(spec.active_params / 1e9, 2),
                    "experts": spec.experts or None,
                    "top_k": spec.top_k or None,
                }
            )
        reports = [
            Predictor.fit(
                find_profile(compose("profile", overrides=[f"model={name}"])), ForestConfig()
            ).report
            for name in self.profiled
        ]
        return Made(pd.DataFrame(rows), claims=[_error(reports, *what) for what in _ERRORS])


_ERRORS = (("throughput_tok_s", "throughput", 6.8), ("power_w", "power", 4.5))


def _error(reports: Sequence[FitReport], key: str, name: str, paper: float) -> Claim:
    found = [100.0 * report.mape[key] for report in reports]
    return Claim(
        id=f"mape_{name}",
        figure="§3.2",
        claim=f"random forest: held-out error in {name}, %",
        paper=(paper, paper),
        ours=sum(found) / len(found),
        low=min(found),
        high=max(found),
        setting="profiles of cap x batch x TP on 4 x A100, five-fold cross-validation; range "
        "over models",
        reason="depends on how many settings the profile has, which the paper does not say",
    )
