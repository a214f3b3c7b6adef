"""The observation vector: what each entry means, its scale, and the way back to units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.compiled.encoding import encode_rows
from envs.knobs import KnobLimits, Knobs
from envs.system import RatedServer

LINEAR_HIGH = 4.0
LOG_HIGH = 2.0


class Observation(NamedTuple):
    """A decoded observation, in SI units; each field is a number or shape ``(num_envs,)``.

    Attributes:
        throughput_tok_s: Output tokens/s over the QoS window.
        output_tok_s: Output tokens/s in the last interval.
        prompt_tok_s: Prompt tokens/s computed in the last interval.
        arrivals_per_s: Requests/s that arrived in the last interval.
        arrival_rate_per_s: Requests/s that arrived over the QoS window.
        running: Requests in the batch.
        waiting: Requests waiting.
        prefill_backlog_tokens: Prompt tokens yet to compute.
        oldest_wait_s: Age of the oldest request without a first token.
        kv_cache_usage: Fraction of KV blocks in use.
        preemptions: Preemptions in the last interval.
        ttft_p99_s: 99th percentile of time to first token in the last interval.
        tpot_p99_s: 99th percentile of time per output token in the last interval.
        power_w: Power of all GPUs together.
        sm_clock_mhz: Mean SM clock.
        cap_binding: Fraction of the interval in which the cap set the clock.
        target_tok_s: Throughput target of the coming interval; 0 when none.
        power_budget_w: Power budget of the coming interval; ``inf`` when none.
        ttft_slo_s: TTFT SLO of the coming interval; ``inf`` when none.
        tpot_slo_s: TPOT SLO of the coming interval; ``inf`` when none.
        power_cap_w: Power cap in force per GPU.
        max_num_seqs: Batch limit in force.
        last_power_cap_w: Power cap requested by the last action.
        last_max_num_seqs: Batch limit requested by the last action.
        last_sm_clock_mhz: Clock limit requested by the last action (the highest when free).
        previous_power_cap_w: Power cap requested by the action before.
        previous_max_num_seqs: Batch limit requested by the action before.
        previous_sm_clock_mhz: Clock limit requested by the action before.
    """

    throughput_tok_s: Any
    output_tok_s: Any
    prompt_tok_s: Any
    arrivals_per_s: Any
    arrival_rate_per_s: Any
    running: Any
    waiting: Any
    prefill_backlog_tokens: Any
    oldest_wait_s: Any
    kv_cache_usage: Any
    preemptions: Any
    ttft_p99_s: Any
    tpot_p99_s: Any
    power_w: Any
    sm_clock_mhz: Any
    cap_binding: Any
    target_tok_s: Any
    power_budget_w: Any
    ttft_slo_s: Any
    tpot_slo_s: Any
    power_cap_w: Any
    max_num_seqs: Any
    last_power_cap_w: Any
    last_max_num_seqs: Any
    last_sm_clock_mhz: Any
    previous_power_cap_w: Any
    previous_max_num_seqs: Any
    previous_sm_clock_mhz: Any

    @property
    def last_knobs(self) -> Knobs:
        """Knobs requested by the last action; the clock is the highest when it is free."""
        return Knobs(self.last_power_cap_w, self.last_max_num_seqs, self.last_sm_clock_mhz)


@dataclass(frozen=True)
class Scale:
    """How one entry is scaled to a range of about 0 to 1.

    Attributes:
        unit: The value that is encoded as 1 on a linear scale, or where a logarithmic scale
            begins to bend.
        logarithmic: Encodes ``log(1 + x/unit) / log(1 + top/unit)`` instead of ``x/unit``.
        top: The value that is encoded as 1 on a logarithmic scale.
        unbounded: Values at the upper bound decode as infinity (no budget, no SLO).
    """

    unit: float
    logarithmic: bool = False
    top: float = 1.0
    unbounded: bool = False

    @property
    def high(self) -> float:
        """Upper bound of the encoded entry; the lower one is 0."""
        return LOG_HIGH if self.logarithmic else LINEAR_HIGH

    def encoded(self, values: Any) -> NDArray[np.float32]:
        """Encodes an entry, or as many of them as there are servers."""
        entry = np.asarray(values, dtype=np.float64) / self.unit
        if self.logarithmic:
            entry = np.log1p(entry) / np.log1p(self.top / self.unit)
        return np.clip(entry, 0.0, self.high).astype(np.float32)


class ObservationLayout:
    """Encodes observations as a flat float32 vector and decodes them by name.

    Scales are fixed when the environment is made (no running statistics) and follow from
    the server: its capacity, power range and batch limit.

    Args:
        scales: The scale of every field of :class:`Observation`.

    Attributes:
        high: Upper bound of each encoded entry; the lower one is 0.
        inverse_unit: First factor on each entry.
        log_factor: Factor on the logarithm of one plus that product; 0 where the scale is
            linear.
    """

    names: tuple[str, ...] = Observation._fields

    def __init__(self, scales: dict[str, Scale]) -> None:
        ordered = [scales[name] for name in self.names]
        self.scales = dict(zip(self.names, ordered, strict=True))
        self._unit = np.array([scale.unit for scale in ordered])
        self._log = np.flatnonzero([scale.logarithmic for scale in ordered])
        self.log_factor = np.array(
            [
                1.0 / math.log1p(scale.top / scale.unit) if scale.logarithmic else 0.0
                for scale in ordered
            ]
        )
        self.inverse_unit = 1.0 / self._unit
        self._unbounded = np.flatnonzero([scale.unbounded for scale in ordered])
        self.high = np.array([scale.high for scale in ordered], dtype=np.float32)

    @classmethod
    def for_system(cls, system: RatedServer) -> ObservationLayout:
        """Builds the layout of a server from its capacity, power range and batch limit."""
        limits: KnobLimits = system.knob_limits
        tokens = Scale(system.capacity_tok_s)
        cap = Scale(limits.power_cap_max_w)
        seqs = Scale(float(limits.max_num_seqs))
        clock = Scale(limits.sm_clock_max_mhz)
        requests = Scale(1.0, logarithmic=True, top=100.0)
        power = Scale(limits.power_cap_max_w * system.num_gpus)
        budget = Scale(
            limits.power_cap_max_w * system.num_gpus * system.system_power[0]
            + system.system_power[1],
            unbounded=True,
        )
        seconds = Scale(0.1, logarithmic=True, top=60.0)
        slo = Scale(0.1, logarithmic=True, top=60.0, unbounded=True)
        return cls(
            {
                "throughput_tok_s": tokens,
                "output_tok_s": tokens,
                "prompt_tok_s": Scale(1_000.0, logarithmic=True, top=100_000.0),
                "arrivals_per_s": requests,
                "arrival_rate_per_s": requests,
                "running": seqs,
                "waiting": Scale(8.0, logarithmic=True, top=1_000.0),
                "prefill_backlog_tokens": Scale(2_000.0, logarithmic=True, top=200_000.0),
                "oldest_wait_s": seconds,
                "kv_cache_usage": Scale(1.0),
                "preemptions": Scale(1.0, logarithmic=True, top=64.0),
                "ttft_p99_s": seconds,
                "tpot_p99_s": Scale(0.02, logarithmic=True, top=1.0),
                "power_w": power,
                "sm_clock_mhz": clock,
                "cap_binding": Scale(1.0),
                "target_tok_s": tokens,
                "power_budget_w": budget,
                "ttft_slo_s": slo,
                "tpot_slo_s": Scale(0.02, logarithmic=True, top=1.0, unbounded=True),
                "power_cap_w": cap,
                "max_num_seqs": seqs,
                "last_power_cap_w": cap,
                "last_max_num_seqs": seqs,
                "last_sm_clock_mhz": clock,
                "previous_power_cap_w": cap,
                "previous_max_num_seqs": seqs,
                "previous_sm_clock_mhz": clock,
            }
        )

    @property
    def space(self) -> gym.spaces.Box:
        """Space of one encoded observation: float32, bounded."""
        return gym.spaces.Box(np.zeros_like(self.high), self.high, dtype=np.float32)

    def index(self, name: str) -> int:
        """Returns the position of a field in the vector."""
        return self.names.index(name)

    def encode(self, raw: NDArray[np.float64]) -> NDArray[np.float32]:
        """Encodes values in SI units.

        Args:
            raw: Values in the order of :class:`Observation`, shape ``(..., len(names))``.

        Returns:
            float32 array of the same shape within the bounds of :attr:`space`.
        """
        rows = np.ascontiguousarray(raw, dtype=np.float64).reshape(-1, len(self.names))
        out = np.empty(rows.shape, dtype=np.float32)
        high = self.high.astype(np.float64)
        encode_rows(rows, self.inverse_unit, self.log_factor, high, out)
        return out.reshape(np.shape(raw))

    def decode(self, encoded: NDArray[np.floating[Any]]) -> Observation:
        """Decodes an observation, or a batch of them, into SI units.

        Args:
            encoded: Array of shape ``(len(names),)`` or ``(num_envs, len(names))``.
        """
        values = np.asarray(encoded, dtype=np.float64)
        raw = values.copy()
        raw[..., self._log] = np.expm1(raw[..., self._log] / self.log_factor[self._log])
        raw *= self._unit
        at_top = values[..., self._unbounded] >= self.high[self._unbounded]
        raw[..., self._unbounded] = np.where(at_top, np.inf, raw[..., self._unbounded])
        if raw.ndim == 1:
            return Observation(*raw.tolist())
        return Observation(*np.moveaxis(raw, -1, 0))
