"""Simulated counterparts of measurements, by the same step model that the engine uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.compiled.jit import entry_point
from envs.simulator.calibration import Calibration, for_engine
from envs.simulator.step_layout import STEP_MODEL
from envs.simulator.step_model import compile_step_model, resolve_step
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.fitting.ablation import WHOLE, Ablation

Floats = NDArray[np.float64]
CHIP_C = 70.0
"""Chip temperature in °C at which a calibration's powers hold."""
_ENERGIES = (
    "busy_w", "weight_j", "kv_j", "state_j", "token_j", "row_j", "pair_j", "expert_j", "choice_j",
)  # fmt: skip
_NO_LEVEL = [1.0, 1.0]
QUANTITIES = ("itl", "tpot", "throughput", "power", "joules_per_token")


@dataclass(frozen=True)
class Simulated:
    """Simulated quantities, one entry per measurement.

    Attributes:
        itl_s: Median time of a step.
        tpot_s: Mean time per output token.
        throughput_tok_s: Tokens per second, counted as in the data.
        power_w: Power of all GPUs.
        natural_w: Power of all GPUs without any cap.
        natural_tpot_s: Mean time per output token without any cap.
        static_w: The part of the power that is drawn whatever the GPUs do.
        clock_fraction: Mean clock as a fraction of the highest.
        binding: Fraction of the time in which the cap set the clock.
    """

    itl_s: Floats
    tpot_s: Floats
    throughput_tok_s: Floats
    power_w: Floats
    natural_w: Floats
    natural_tpot_s: Floats
    static_w: Floats
    clock_fraction: Floats
    binding: Floats

    def quantity(self, name: str) -> Floats:
        """Returns one of :data:`QUANTITIES`."""
        return {
            "itl": self.itl_s,
            "tpot": self.tpot_s,
            "throughput": self.throughput_tok_s,
            "power": self.power_w,
            "joules_per_token": self.power_w / self.throughput_tok_s,
        }[name]


class Simulation:
    """Measurements of one calibration, laid out so that they are simulated in one call."""

    def __init__(self, measurements: Sequence[Measurement], without: Ablation = WHOLE) -> None:
        self._zeroed = list(without.zeroed)
        self.measurements = list(measurements)
        self._setups: list[Measurement] = []
        known: dict[Any, int] = {}
        setup = np.zeros(len(self.measurements), dtype=np.int64)
        most = max((len(m.steps) for m in self.measurements), default=1)
        self._steps = np.zeros((len(self.measurements), most, 6))
        for row, m in enumerate(self.measurements):
            run = m.run if m.has_level else ""
            key = (m.gpu.name, m.model.name, m.parallelism, run, m.temperature_c, m.engine)
            if key not in known:
                known[key] = len(self._setups)
                self._setups.append(m)
            setup[row] = known[key]
            for column, step in enumerate(m.steps):
                self._steps[row, column] = (
                    step.decode_seqs, step.context_tokens, step.prefill_tokens,
                    step.prefill_pairs, step.weight, step.median_weight,
                )  # fmt: skip
        self._setup = setup
        self._cap_w = np.array([m.cap_w for m in self.measurements])
        self._clock = np.array([m.clock_limit for m in self.measurements])
        self._gpus = np.array([m.parallelism.num_gpus for m in self.measurements], dtype=float)
        self._batch = np.array([m.batch for m in self.measurements])
        self._host_bound = np.array([m.host_bound for m in self.measurements], dtype=bool)
        self._tpot_s = measured(self.measurements, "tpot")
        self._counted = np.array([m.counted_tokens for m in self.measurements])

    def run(self, calibration: Calibration) -> Simulated:
        """Simulates every measurement with one calibration."""
        engines = {m.engine for m in self._setups}
        versions = {engine: for_engine(calibration, engine) for engine in engines}
        models = np.array(
            [
                compile_step_model(m.gpu, m.model, m.parallelism, versions[m.engine])
                for m in self._setups
            ],
            dtype=STEP_MODEL,
        )
        for name in self._zeroed:
            models[name] = 0.0
        level = np.array(
            [calibration.run_levels.get(m.run, _NO_LEVEL) for m in self._setups], dtype=float
        ).reshape(-1, 2)
        for name in _ENERGIES:
            models[name] *= level[:, 1]
        warmer_k = np.array([(m.temperature_c or CHIP_C) - CHIP_C for m in self._setups])
        models["static_w"] *= 1.0 + calibration.leakage_per_k * warmer_k
        sums = _simulate(models, self._setup, self._steps, self._cap_w, self._clock)
        natural_w, natural_tpot_s = sums[2].copy(), sums[1].copy()
        bound = np.flatnonzero(sums[4])
        if bound.size:
            no_cap = np.full(bound.size, np.inf)
            uncapped = _simulate(
                models, self._setup[bound], self._steps[bound], no_cap, self._clock[bound]
            )
            natural_w[bound], natural_tpot_s[bound] = uncapped[2], uncapped[1]
        time = level[self._setup, 0]
        static_w = models["static_w"][self._setup]
        idling = np.where(self._host_bound, np.minimum(1.0, sums[1] * time / self._tpot_s), 1.0)
        power_w = static_w + (sums[2] - static_w) * idling
        return Simulated(
            itl_s=sums[0] * time,
            tpot_s=sums[1] * time,
            throughput_tok_s=self._batch * self._counted / (sums[1] * time),
            power_w=power_w * self._gpus,
            natural_w=natural_w * self._gpus,
            natural_tpot_s=natural_tpot_s * time,
            static_w=static_w * self._gpus,
            clock_fraction=sums[3],
            binding=sums[4],
        )


def measured(measurements: Sequence[Measurement], quantity: str) -> Floats:
    """Returns the measured values of a quantity; ``nan`` where it was not measured."""
    if quantity == "joules_per_token":
        return measured(measurements, "power") / measured(measurements, "throughput")
    field = {
        "itl": "itl_s",
        "tpot": "tpot_s",
        "throughput": "throughput_tok_s",
        "power": "power_w",
        "clock": "clock_fraction",
    }[quantity]
    return np.array([_or_nan(getattr(m, field)) for m in measurements])


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


@entry_point()
def _simulate(models: Any, setup: Any, steps: Any, cap_w: Any, clock_limit: Any) -> Any:
    rows = steps.shape[0]
    sums = np.zeros((5, rows))
    for row in range(rows):
        c = models[setup[row]]
        for kind in range(steps.shape[1]):
            step = steps[row, kind]
            if step[4] <= 0.0:
                continue
            time, power, clock, binding = resolve_step(
                c, step[0], step[1], step[2], step[3], cap_w[row], clock_limit[row]
            )
            spent = step[4] * time
            sums[0, row] += step[5] * time
            sums[1, row] += spent
            sums[2, row] += spent * power
            sums[3, row] += spent * clock
            sums[4, row] += spent * binding
        for index in range(2, 5):
            sums[index, row] /= sums[1, row]
    return sums
