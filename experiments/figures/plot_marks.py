"""Labels, colours and marks that the plots of all figures share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.evaluation.statistics import Interval
from experiments.reporting.plot_style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    toned,
)

FORMATS = ("png", "pdf")
MODELS: dict[str, tuple[str, str, str]] = {
    "mixtral_8x7b": ("Mixtral-8x7B", BLUE, "o"),
    "qwen15_moe_a27b": ("Qwen1.5-MoE", ORANGE, "s"),
    "olmoe_1b_7b": ("OLMoE", GREEN, "^"),
    "deepseek_moe_16b": ("DeepSeek-MoE", RED, "D"),
    "phi35_moe": ("Phi-3.5-MoE", PURPLE, "v"),
    "gpt2": ("GPT-2", GREY, "X"),
    "llama2_7b": ("Llama-2-7B", SKY, "P"),
    "mistral_7b": ("Mistral-7B", BLACK, "h"),
}
"""Label, colour and mark of each model of the paper's Table 2."""
GPUS = {"a100_sxm4_80gb": "A100", "h100_sxm": "H100", "h200_sxm": "H200"}
"""Name of each GPU type."""
CONTROLLERS: dict[str, tuple[str, str]] = {
    "static": ("Baseline", GREY),
    "static_dynamic_cap": ("Batch 64,\ndynamic cap", toned(GREY, 0.6)),
    "adaptive_batch": ("Adaptive\nBatch", SKY),
    "adaptive_cap": ("Adaptive\nCap", ORANGE),
    "pals": ("PALS", BLUE),
    "pals_symmetric": ("PALS,\nsymmetric", toned(BLUE, 0.6)),
    "oracle": ("Oracle", BLACK),
    "governor": ("Governor", GREEN),
    "bandit": ("Bandit", PURPLE),
    "ppo": ("PPO", RED),
    "ppo_cap": ("PPO,\ncap only", toned(RED, 0.6)),
    "ppo_clock": ("PPO,\nclock", toned(RED, 0.8)),
}
"""Label and colour of each controller; kin have tones of one colour, none has another's."""


def model_label(name: str) -> str:
    """Returns the label of a model; its name where there is none."""
    return MODELS.get(name, (name, BLACK, "o"))[0]


def gpu_label(name: str) -> str:
    """Returns the label of a GPU type; its name where there is none."""
    return GPUS.get(name, name)


def controller_label(name: str) -> str:
    """Returns the label of a controller in one line; its name where there is none."""
    return CONTROLLERS.get(name, (name, BLACK))[0].replace("\n", " ")


def line(
    axis: Any,
    x: Sequence[float],
    values: Sequence[Interval],
    model: str,
    *,
    band: bool = True,
    **options: Any,
) -> None:
    """Draws a model's line, with a band for its intervals."""
    label, color, mark = MODELS.get(model, (model, BLACK, "o"))
    style = {"color": color, "marker": mark, "ms": 4.5, "label": label, **options}
    axis.plot(x, [value.value for value in values], **style)
    if band:
        low, high = [v.low for v in values], [v.high for v in values]
        axis.fill_between(x, low, high, color=style["color"], alpha=0.2, lw=0)


def bar(axis: Any, x: float, value: Interval, width: float, color: str, **options: Any) -> None:
    """Draws a bar with its interval."""
    axis.bar(x, value.value, width, color=color, **options)
    error = [[max(0.0, value.value - value.low)], [max(0.0, value.high - value.value)]]
    axis.errorbar(x, value.value, yerr=error, color=BLACK, lw=1.0, capsize=2.0)


def paper_mark(
    axis: Any, x: tuple[float, float], value: float, label: str | None = None, text: str = ""
) -> None:
    """Marks a value that the paper states, between two places of the x axis."""
    axis.plot(x, [value, value], color=BLACK, lw=1.6, ls=(0, (2, 1)), label=label, zorder=6)
    if text:
        note(axis, text, (x[1], value), (2, 0), va="center", color=BLACK)


def note(
    axis: Any, text: str, at: tuple[float, float], offset: tuple[float, float], **options: Any
) -> None:
    """Writes a small text beside a point.

    Args:
        axis: The axes.
        text: The text.
        at: The point; in data coordinates unless ``xycoords`` says otherwise.
        offset: Distance from it in points.
        **options: Passed to ``annotate``.
    """
    style = {"textcoords": "offset points", "fontsize": 7.5, **options}
    axis.annotate(text, at, xytext=offset, **style)


def level(axis: Any, value: float, text: str) -> None:
    """Draws a dashed line across the axes at a value of the paper, with its text above."""
    axis.axhline(value, color=BLACK, lw=1.4, ls=(0, (2, 1)))
    note(axis, text, (0.02, value), (0, 3), xycoords=("axes fraction", "data"))


def controller_ticks(axis: Any, names: Sequence[str], size: float = 8) -> None:
    """Labels the x axis with one controller per place."""
    labels = [CONTROLLERS.get(name, (name, ""))[0] for name in names]
    axis.set_xticks(range(len(names)), labels, fontsize=size)
    axis.grid(visible=False, axis="x")


def below(axis: Any, columns: int = 3) -> None:
    """Puts the legend below the axes, where it hides nothing."""
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns)


def stem(file: Path) -> Path:
    """Returns the file with the suffix that ``saved_plot`` replaces by those of the formats."""
    return file.with_suffix(".png")
