"""The configuration of the figure, and how its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from envs.quantities import Clock, GPUs, Load, Seconds, Seeds, Watts
from experiments.figures.base import Figure, Result
from experiments.figures.clock_lock.data import HeldKnobRuns, LoadSweep
from experiments.figures.clock_lock.plot import draw
from experiments.figures.context import FigureContext
from experiments.figures.plot_marks import gpu_label, model_label
from experiments.figures.text import figure_text


@dataclass(kw_only=True)
class ClockLockFigure(Figure):
    """A cap and a locked clock, each held throughout, over the load.

    Attributes:
        gpu: GPU type.
        model: Model.
        tensor: Tensor-parallel size.
        workload: Name of the workload.
        loads: Loads as a fraction of Baseline's saturated rate.
        caps_w: Power caps.
        clocks_mhz: SM clocks, at the highest cap.
        seeds: Episodes per load.
        duration_s: Length of an episode in seconds.
    """

    gpu: str = "a100_sxm4_80gb"
    model: str = "mixtral_8x7b"
    tensor: GPUs = 4
    workload: str = "poisson_gsm8k"
    loads: list[Load] = field(default_factory=list)
    caps_w: list[Watts] = field(default_factory=list)
    clocks_mhz: list[Clock] = field(default_factory=list)
    seeds: Seeds = 8
    duration_s: Seconds = 600.0

    def make(self, context: FigureContext) -> Result:
        """Runs every load with each cap and each clock."""
        text = figure_text("clock_lock")
        sweep = LoadSweep(
            gpu=self.gpu,
            model=self.model,
            tensor=self.tensor,
            workload=self.workload,
            loads=self.loads,
            seeds=self.seeds,
            duration_s=self.duration_s,
        )
        runs = HeldKnobRuns(self.loads, sweep.run(context, self.caps_w, self.clocks_mhz))
        title, caption = text.made(
            model=model_label(self.model),
            gpu=gpu_label(self.gpu),
            workload=self.workload,
            seeds=self.seeds,
            duration=self.duration_s,
        )
        return Result(
            title=title,
            caption=caption,
            rows=runs.rows(),
            draw=lambda file: draw(runs, self.model, file),
        )
