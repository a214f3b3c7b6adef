"""Response of the calibrated step model to cap, clock and batch: curves and key values."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs import catalog
from envs.simulator.parallelism import Parallelism
from envs.simulator.step_layout import StepModel
from envs.simulator.step_model import compile_step_model, resolve_step
from experiments.reporting.markdown import markdown_table
from experiments.reporting.plot_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    log_scale,
    saved_plot,
)

FREE_W = 1e9
CONTEXT_TOKENS = 300.0
PROMPT_TOKENS = 2048.0


class GpuStep(NamedTuple):
    """Time and power of one GPU during one step.

    Attributes:
        time_s: Duration of the step.
        power_w: Mean power.
        clock: SM clock as a fraction of the highest.
        binding: 1 where the cap limits the clock, else 0.
    """

    time_s: float
    power_w: float
    clock: float
    binding: float


@cache
def vector(gpu: str, model: str, tensor: int = 1) -> StepModel:
    """Returns the step model of a catalogue GPU and model."""
    spec = catalog.build("gpu", gpu)
    calibration = catalog.build("calibration", spec.calibration)
    return compile_step_model(spec, catalog.build("model", model), Parallelism(tensor), calibration)


def decode(c: StepModel, batch: int, cap_w: float = FREE_W, clock: float = 1.0) -> GpuStep:
    """Returns a step in which a batch decodes, at 300 tokens of context each."""
    return GpuStep(*resolve_step(c, batch, batch * CONTEXT_TOKENS, 0.0, 0.0, cap_w, clock))


def prefill(c: StepModel, cap_w: float = FREE_W, clock: float = 1.0) -> GpuStep:
    """Returns a step that computes one prompt of 2,048 tokens."""
    pairs = PROMPT_TOKENS * PROMPT_TOKENS / 2.0
    return GpuStep(*resolve_step(c, 0.0, 0.0, PROMPT_TOKENS, pairs, cap_w, clock))


def joules_per_token(step: GpuStep, batch: int, gpus: int = 1) -> float:
    """Returns the energy of one decoded token."""
    return gpus * step.power_w * step.time_s / batch


def knee_w(c: StepModel, batch: int, lost: float = 0.03) -> float:
    """Returns the lowest cap that costs no more than a fraction of the speed."""
    free = decode(c, batch).time_s
    caps = np.arange(100.0, 401.0)
    return float(next(w for w in caps if decode(c, batch, w).time_s < free / (1.0 - lost)))


def behaviour_table() -> str:
    """Returns the key values as a Markdown table."""
    rows: list[tuple[str, str]] = []
    for gpu in ("a100_sxm4_80gb", "h100_sxm"):
        for model, gpus in (("llama31_8b", 1), ("mistral_7b", 1), ("mixtral_8x7b", 4)):
            c = vector(gpu, model, gpus)
            ratio = joules_per_token(decode(c, 1), 1) / joules_per_token(decode(c, 32), 32)
            what = f"J/token at batch 1 over batch 32, {model}, {gpus}×{gpu}"
            rows.append((what, f"{ratio:.1f}"))
    for model in ("llama2_7b", "olmoe_1b_7b"):
        c = vector("a100_sxm4_80gb", model)
        knees = ", ".join(f"{knee_w(c, b):.0f} W at {b}" for b in (1, 16, 64))
        rows.append((f"lowest cap that costs under 3 % of decode speed, {model}, A100", knees))
    c = vector("a100_sxm4_80gb", "mistral_7b")
    slow_decode = decode(c, 1, 250.0).time_s / decode(c, 1).time_s - 1.0
    slow_prefill = prefill(c, 250.0).time_s / prefill(c).time_s - 1.0
    rows.append(
        (
            "250 W cap on an A100, mistral_7b: decode of one / prefill of 2,048 tokens",
            f"+{100 * slow_decode:.1f} % / +{100 * slow_prefill:.0f} % time",
        )
    )
    clocks = np.linspace(0.15, 1.0, 86)
    for batch in (1, 16):
        energy = [joules_per_token(decode(c, batch, clock=x), batch) for x in clocks]
        best = int(np.argmin(energy))
        saved = 100 * (1 - energy[best] / energy[-1])
        what = f"A100, mistral_7b, batch {batch}: clock of least energy"
        rows.append((what, f"{clocks[best]:.2f} of the highest, {saved:.0f} % saved"))
    c = vector("h200_sxm", "llama31_8b")
    free = decode(c, 8)
    lock = min(joules_per_token(decode(c, 8, clock=x), 8) for x in np.linspace(0.2, 1.0, 81))
    same = decode(c, 8, cap_w=free.power_w + 1.0)
    rows.append(
        (
            "H200, llama31_8b, batch 8: draw without a cap; time under a cap just above it; best "
            "clock lock saves",
            f"{free.power_w:.0f} W; {100 * (same.time_s / free.time_s - 1):+.2f} %; "
            f"{100 * (1 - lock / joules_per_token(free, 8)):.0f} %",
        )
    )
    return markdown_table(["behaviour", "value"], rows)


def draw_behaviour(file: Path) -> Path:
    """Draws speed over cap, energy over clock and energy over batch."""
    caps = np.arange(100.0, 401.0, 5.0)
    clocks = np.linspace(0.15, 1.0, 60)
    batches = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    dense = vector("a100_sxm4_80gb", "llama2_7b")
    moe = vector("a100_sxm4_80gb", "olmoe_1b_7b")
    with saved_plot(file, 1, 3, (11.0, 3.6)) as (_, axes):
        for c, name, colour in ((dense, "Llama-2-7B", BLUE), (moe, "OLMoE-1B-7B", ORANGE)):
            for batch, style in ((1, ":"), (16, "--"), (64, "-")):
                free = decode(c, batch).time_s
                speed = [free / decode(c, batch, w).time_s for w in caps]
                axes[0].plot(caps, speed, style, color=colour, label=f"{name}, batch {batch}")
        free = prefill(dense).time_s
        speed = [free / prefill(dense, w).time_s for w in caps]
        axes[0].plot(caps, speed, color=GREY, label="Llama-2-7B, prefill")
        _labels(axes[0], "Speed under a cap, A100", "power cap (W)", "speed / speed without cap")
        for batch, colour in ((1, BLUE), (16, GREEN), (64, PURPLE)):
            energy = np.array(
                [joules_per_token(decode(dense, batch, clock=x), batch) for x in clocks]
            )
            axes[1].plot(clocks, energy / energy[-1], color=colour, label=f"batch {batch}")
        _labels(
            axes[1], "Energy at a locked clock, A100", "clock / highest", "J/token / at highest"
        )
        axes[1].set_ylim(0.5, 2.0)
        for name, label, gpus, colour in (
            ("llama31_8b", "Llama-3.1-8B", 1, BLUE),
            ("mixtral_8x7b", "Mixtral-8x7B, TP 4", 4, ORANGE),
        ):
            c = vector("a100_sxm4_80gb", name, gpus)
            energy = np.array([joules_per_token(decode(c, b), b, gpus) for b in batches])
            axes[2].plot(batches, energy, "o-", ms=3, color=colour, label=label)
        log_scale(axes[2].xaxis)
        log_scale(axes[2].yaxis)
        _labels(axes[2], "Energy and batch, A100", "sequences at once", "J/token")
    return file


def _labels(axis: Any, title: str, x: str, y: str) -> None:
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.legend(fontsize=7)
