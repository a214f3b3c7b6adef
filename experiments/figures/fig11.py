"""Figure 11: a throughput target that moves, tracked by cap and batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from hydra import compose

from experiments.execution import INTERVALS_FILE, execute, finished_summary
from experiments.figures.base import FORMATS, Made, PaperFigure
from experiments.figures.study import Study
from experiments.style import BLUE, GREEN, GREY, ORANGE, picture


@dataclass(kw_only=True)
class MovingTarget(PaperFigure):
    """Figure 11.

    Attributes:
        controller: Controller that tracks the target.
        model: Model.
        load: Arrival rate as a share of capacity: more than the target asks for.
    """

    controller: str = "pals"
    model: str = "mixtral_8x7b"
    load: float = 1.1
    title: str = "A moving throughput target, tracked by PALS"

    def make(self, study: Study) -> Made:
        """See :meth:`PaperFigure.make`."""
        directory = study.directory / "moving_target" / self.controller
        config = compose(
            "config",
            overrides=[
                f"controller={self.controller}",
                f"model={self.model}",
                "objective=moving_target",
                f"workload.load={self.load}",
                f"duration={study.duration_s}",
            ],
        )
        if finished_summary(config, directory) is None:
            directory.mkdir(parents=True, exist_ok=True)
            execute(config, directory, self.controller)
        data = pd.read_parquet(directory / INTERVALS_FILE)[
            ["time_s", "throughput_tok_s", "target_tok_s", "power_w", "requested_power_cap_w",
             "requested_max_num_seqs", "running", "waiting"]
        ]  # fmt: skip
        return Made(data, lambda file: self._draw(data, file))

    def _draw(self, data: pd.DataFrame, file: Path) -> None:
        with picture(file, 3, 1, (7.2, 5.2), sharex=True, formats=FORMATS) as (_, axes):
            time = data["time_s"]
            axes[0].plot(time, data["target_tok_s"], color=GREY, lw=2.0, label="target")
            axes[0].plot(time, data["throughput_tok_s"], color=BLUE, label="delivered")
            axes[0].set_ylabel("Output tokens/s")
            axes[1].plot(time, data["requested_power_cap_w"], color=ORANGE)
            axes[1].set_ylabel("Power cap, W")
            axes[2].plot(time, data["requested_max_num_seqs"], color=GREEN, label="batch limit")
            axes[2].plot(time, data["running"], color=BLUE, lw=0.8, label="running")
            axes[2].set(ylabel="Requests", xlabel="Time, s")
            for axis in (axes[0], axes[2]):
                axis.legend(fontsize=7.5, loc="upper right")
