"""What the folder of a GPU's run says besides its rows: the board, the model, the requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs import catalog
from envs.errors import WorkloadError
from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from experiments.calibration.data.csv_table import RowError
from experiments.calibration.data.json_lines import read_json, read_json_lines
from experiments.calibration.data.specifications import find_gpu_of_device, find_model
from experiments.calibration.data.tasks import Task


@dataclass(frozen=True)
class RunFolder:
    """One run.

    Attributes:
        name: The folder's name.
        gpu: GPU type.
        model: Model that was served.
        cap_w: Power limit that the board enforced, in watts.
        mixture: Request lengths of the mixed load; ``None`` where none was planned.
        engine: Version of vLLM, as in ``vllm-0.26``; empty where it was not noted.
    """

    name: str
    gpu: GPUSpec
    model: ModelSpec
    cap_w: float
    mixture: Task | None
    engine: str = ""


def open_run(folder: Path) -> RunFolder:
    """Reads ``board.json`` and, if it is there, ``run.jsonl``.

    Raises:
        WorkloadError: One of them is broken; the message names file and line or key.
        RowError: The GPU or the model has no specification.
    """
    file = folder / "board.json"
    board = read_json(file)
    name, limit_mw = board.get("name"), board.get("power_limit_enforced_mw")
    if not isinstance(name, str):
        raise WorkloadError(f"{file}: no name of the GPU under the key 'name'")
    if not isinstance(limit_mw, int | float) or limit_mw <= 0:
        raise WorkloadError(
            f"{file}: power_limit_enforced_mw is {limit_mw!r}, not the board's limit in milliwatts"
        )
    folder_name = folder.resolve().name
    return RunFolder(
        name=folder_name,
        gpu=find_gpu_of_device(name),
        model=find_model_of_folder(folder_name),
        cap_w=limit_mw / 1e3,
        mixture=_mixture(folder / "run.jsonl"),
        engine=_engine(folder / "run.jsonl"),
    )


def find_model_of_folder(name: str) -> ModelSpec:
    """Returns the model whose catalogue name the folder's name is, or begins with before a ``_``.

    Raises:
        RowError: There is none.
    """
    fitting = [known for known in catalog.names("model") if f"{name}_".startswith(f"{known}_")]
    if not fitting:
        raise RowError(f"the folder's name {name!r} begins with no model's name (conf/model)")
    return find_model(max(fitting, key=len))


def _mixture(file: Path) -> Task | None:
    """Returns the lengths of the mixed load, drawn evenly between two ends each."""
    if not file.is_file():
        return None
    for line, run in read_json_lines(file):
        plan = run.get("plan")
        if isinstance(plan, Mapping):
            prompt, prompt_variation = _even(file, line, plan, "mixture_prompts")
            _, output_variation = _even(file, line, plan, "mixture_outputs")
            spread = math.sqrt(math.log1p(prompt_variation**2))  # of a log-normal length
            return Task(prompt, spread, output_variation)
    return None


def _engine(file: Path) -> str:
    """Returns the version that the run notes, without its patch."""
    if not file.is_file():
        return ""
    for _, run in read_json_lines(file):
        version = run.get("vllm")
        if isinstance(version, str) and version[:1].isdecimal():
            return "vllm-" + ".".join(version.split(".")[:2])
    return ""


def _even(file: Path, line: int, plan: Mapping[str, Any], key: str) -> tuple[float, float]:
    """Returns mean and relative standard deviation of a length drawn evenly."""
    ends = plan.get(key)
    if not isinstance(ends, Sequence) or len(ends) != 2 or not 0 < ends[0] <= ends[1]:
        raise WorkloadError(f"{file}:{line}: plan.{key} is {ends!r}, not two lengths in tokens")
    low, high = ends
    mean = 0.5 * (low + high)
    return mean, (high - low) / math.sqrt(12.0) / mean
