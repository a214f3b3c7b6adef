"""Time to first token at light load, simulated against measured, by prompt length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.simulator.calibration import Calibration, for_engine
from envs.simulator.config import SimulatedServerConfig
from envs.simulator.step_model import compile_step_model, resolve_step
from experiments.calibration.data.readers.light_load import FirstToken
from experiments.calibration.data.readers.powertrace_runs import clock_limit
from experiments.calibration.validation.cross_validation import installed
from experiments.reporting.markdown import markdown_table


@dataclass(frozen=True)
class SimulatedFirstToken:
    """A measured TTFT beside the simulated one.

    Attributes:
        measured: The measured one.
        seconds: The simulated one.
    """

    measured: FirstToken
    seconds: float

    @property
    def error(self) -> float:
        """Simulated over measured less 1."""
        return self.seconds / self.measured.seconds - 1.0


def first_tokens(measured: Sequence[FirstToken]) -> list[SimulatedFirstToken]:
    """Simulates every measured TTFT with the installed calibrations."""
    return [
        SimulatedFirstToken(
            m, first_token_s(m, for_engine(installed(m.run.gpu_spec), m.run.engine))
        )
        for m in measured
    ]


def first_token_s(m: FirstToken, k: Calibration) -> float:
    """Returns the TTFT of a prompt that comes while others decode.

    It waits for half of the step that is running and, where steps are scheduled ahead, for the next
    one; then its own steps compute it, as many as the step's budget of tokens makes necessary. The
    front end adds its time.

    Args:
        m: Prompt, model and the requests that decode meanwhile.
        k: Coefficients.
    """
    gpu, parallelism = m.run.gpu_spec, m.run.parallelism
    c = compile_step_model(gpu, m.run.model_spec, parallelism, k)
    cap_w, clock, decoding = gpu.power_cap_max_w, clock_limit(gpu), m.run.running
    context = decoding * m.run.context
    running_s = resolve_step(c, decoding, context, 0.0, 0.0, cap_w, clock)[0]
    budget = SimulatedServerConfig(tensor_parallel=parallelism.tensor).token_budget(gpu)
    ahead = 1.0 if k.host_overlap > 0.5 else 0.0
    total = k.front_end_s + (0.5 + ahead) * running_s * -math.expm1(-decoding)
    done, prompt = 0.0, math.sqrt(m.shortest * m.longest)
    while done < prompt:
        chunk = min(budget - decoding, prompt - done)
        pairs = chunk * (done + 0.5 * (chunk + 1.0))
        total += resolve_step(c, decoding, context, chunk, pairs, cap_w, clock)[0]
        done += chunk
    return total


def first_token_table(simulated: Sequence[SimulatedFirstToken]) -> str:
    """Returns every TTFT and the median error of each run as a Markdown table."""
    rows = [
        [
            s.measured.name,
            f"{s.measured.shortest:g}–{s.measured.longest:g}",
            f"{1e3 * s.measured.seconds:.1f}",
            f"{1e3 * s.seconds:.1f}",
            f"{100.0 * s.error:+.0f} %",
        ]
        for s in sorted(simulated, key=lambda s: (s.measured.name, s.measured.shortest))
    ]
    for run in sorted({s.measured.name for s in simulated}):
        errors = [abs(s.error) for s in simulated if s.measured.name == run]
        rows.append(
            [run, "median of the absolute errors", "", "", f"{100 * np.median(errors):.0f} %"]
        )
    return markdown_table(["run", "prompt tokens", "TTFT, ms", "simulated", "error"], rows)
