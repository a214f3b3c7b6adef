"""Figures 4 and 5: one to three nodes, as replicas and with experts spread over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from experiments.figures.base import FORMATS, NAMES, Made, PaperFigure
from experiments.figures.claims import Claim
from experiments.figures.study import Study
from experiments.style import BLUE, GREEN, ORANGE, RED, picture

_LOSS = {"qwen15_moe_a27b": 0.30, "mixtral_8x7b": 0.15}
"""Loss of tokens/J at three nodes that the paper states (figure 4)."""
_GPUS_PER_NODE = 4


@dataclass(kw_only=True)
class Nodes(PaperFigure):
    """Figures 4 and 5.

    Attributes:
        models: Models to show.
        nodes: Numbers of nodes of four GPUs.
        spread_experts: Whether experts are spread over the GPUs of all nodes (figure 5), or
            every node holds them all (figure 4).
        paper_figure: Which of the two it is.
        title: What it shows.
    """

    models: list[str] = field(default_factory=list)
    nodes: list[int] = field(default_factory=lambda: [1, 2, 3])
    spread_experts: bool = False
    paper_figure: str = "4"
    title: str = "Several nodes"

    def make(self, study: Study) -> Made:
        """See :meth:`PaperFigure.make`."""
        frames = []
        for model in self.models:
            for nodes in self.nodes:
                for experts in (1, nodes * _GPUS_PER_NODE):
                    # The same requests in flight over all nodes, or the same on each.
                    for places in {64 // nodes, 64}:
                        frame = study.profile(
                            f"model={model}",
                            f"server.data_parallel={nodes}",
                            f"server.expert_parallel={experts}",
                            f"server.max_num_seqs={places}",
                            f"action.max_num_seqs=[{places}]",
                            "profile.tensor_parallel=[]",
                        )
                        frames.append(
                            frame.assign(
                                model=model, nodes=nodes, spread=experts > 1, per_node=places
                            )
                        )
        data = pd.concat(frames, ignore_index=True)
        data = data[data["power_cap_w"] == data["power_cap_w"].max()].reset_index(drop=True)
        claims = [] if self.spread_experts else [self._claim(data, m) for m in _LOSS]
        return Made(data, lambda file: self._draw(data, file), claims)

    def _claim(self, data: pd.DataFrame, model: str) -> Claim:
        most = max(self.nodes)
        losses = [
            1.0 - _relative(data, model, spread, shared, key)[most]
            for spread in (False, True)
            for shared in (False, True)
            for key in ("tokens_per_joule", "tokens_per_joule_system")
        ]
        return Claim(
            id=f"fig04_loss_{model}",
            figure="4",
            claim=f"{NAMES[model]}: loss of tokens/J from one node to three",
            paper=(_LOSS[model],) * 2,
            ours=losses[0],
            low=min(losses),
            high=max(losses),
            setting="saturated, TP4 on each node of 4 x A100, 400 W; range over experts kept on "
            "each node or spread over all, 64 requests on each node or over all, GPUs' or nodes' "
            "energy",
            reason="replicas that share nothing lose nothing; a loss needs traffic between "
            "nodes or a batch that is split over them. The paper gives neither the batch per "
            "node nor what runs over InfiniBand",
            neutral=0.0,
        )

    def _draw(self, data: pd.DataFrame, file: Path) -> None:
        colors = (BLUE, ORANGE, GREEN, RED)
        with picture(file, 1, 2, (8.4, 3.1), formats=FORMATS) as (_, axes):
            for model, color in zip(self.models, colors, strict=False):
                for shared, style in ((False, "-"), (True, "--")):
                    line = _relative(data, model, self.spread_experts, shared, "tokens_per_joule")
                    axes[0].plot(
                        line.index, line, marker="o", ms=4, color=color, ls=style,
                        label=NAMES[model] if not shared else None,
                    )  # fmt: skip
                    speed = _pick(data, model, self.spread_experts, shared)["throughput_tok_s"]
                    axes[1].plot(speed.index, speed, marker="o", ms=4, color=color, ls=style)
                if not self.spread_experts and model in _LOSS:
                    axes[0].plot([3], [1.0 - _LOSS[model]], "x", color=color, ms=8, mew=2)
            axes[0].set(xlabel="Nodes of 4 GPUs", ylabel="Tokens/J over one node's")
            axes[1].set(xlabel="Nodes of 4 GPUs", ylabel="Output tokens/s")
            for axis in axes:
                axis.set_xticks(self.nodes)
            axes[0].legend(title="solid: 64 a node; dashed: 64 in all;\ncrosses: paper")


def _pick(data: pd.DataFrame, model: str, spread: bool, shared: bool) -> pd.DataFrame:
    """Returns one row a number of nodes; one node never spreads over others."""
    own = data[data["model"] == model]
    wanted = own["nodes"].map(lambda nodes: 64 // nodes if shared else 64)
    own = own[own["per_node"] == wanted]
    several = own["nodes"] > 1
    kept = own[(~several & ~own["spread"]) | (several & (own["spread"] == spread))]
    return kept.set_index("nodes").sort_index()


def _relative(data: pd.DataFrame, model: str, spread: bool, shared: bool, key: str) -> pd.Series:
    line = _pick(data, model, spread, shared)[key]
    relative: pd.Series = line / line.loc[1]
    return relative
