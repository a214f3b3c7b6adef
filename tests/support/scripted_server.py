"""A serving system that costs nothing to run and fails when it is told to."""

from __future__ import annotations

from envs import catalog
from envs.cluster.node import Node
from envs.errors import ServerError
from envs.knobs import KnobLimits, Knobs
from envs.latency import LatencyRecord
from envs.serving import ServingEnv
from envs.system import ServingSystem
from envs.telemetry import MODELLED, Telemetry

GPUS = 4


class GoneError(ServerError):
    """The scripted server died."""


class SilentError(ServerError):
    """The scripted server hangs: the call ran into its time limit."""


class ScriptedServer(ServingSystem):
    """Draws its caps, serves in proportion to them, and fails in the intervals named.

    Args:
        fails: Error to raise in an interval, counted over the server's whole life.
        refuses: Number of attempts to start again that fail.
    """

    def __init__(self, fails: dict[int, ServerError] | None = None, refuses: int = 0) -> None:
        self.knob_limits = KnobLimits(100.0, 400.0, 64, 210.0, 1410.0)
        self.num_gpus = GPUS
        self.capacity_tok_s = 1600.0
        self.rated_power_w = 1600.0
        self.offered_tok_s = 1200.0
        self.system_power = (1.05, 345.0)
        self.fails = fails or {}
        self.refuses = refuses
        self.life = 0
        self.resets = 0
        self.seeds: list[int] = []
        self.caps: list[float] = []
        self.closed = False
        self._knobs = self.knob_limits.highest
        self._time_s = 0.0

    def reset(self, seed: int) -> Telemetry:
        self.resets += 1
        if self.resets > 1 and self.refuses > 0:
            self.refuses -= 1
            raise GoneError("still down")
        self.seeds.append(seed)
        self._time_s = 0.0
        self._knobs = self.knob_limits.highest
        return self._telemetry(0.0)

    def apply(self, knobs: Knobs) -> None:
        self._knobs = self.knob_limits.clip(knobs)

    def set_slos(self, ttft_slo_s: float, tpot_slo_s: float) -> None:
        pass

    def set_warmup(self, seconds: float) -> None:
        pass

    def advance(self, seconds: float) -> Telemetry:
        self.life += 1
        if self.life in self.fails:
            raise self.fails[self.life]
        self._time_s += seconds
        self.caps.append(float(self._knobs.power_cap_w))
        return self._telemetry(seconds)

    def latency(self) -> LatencyRecord:
        return LatencyRecord()

    def close(self) -> None:
        self.closed = True

    def _telemetry(self, seconds: float) -> Telemetry:
        cap_w = float(self._knobs.power_cap_w)
        energy = GPUS * cap_w * seconds
        alpha, beta_w = self.system_power
        return Telemetry(
            time_s=self._time_s,
            duration_s=seconds,
            output_tokens=4.0 * cap_w * seconds,
            power_w=GPUS * cap_w,
            gpu_power_w=(cap_w,) * GPUS,
            energy_gpu_j=energy,
            energy_system_j=alpha * energy + beta_w * seconds,
            power_cap_w=cap_w,
            max_num_seqs=float(self._knobs.max_num_seqs),
            requested=self._knobs,
            power_source=MODELLED,
        )


def scripted_node(
    name: str,
    server: ScriptedServer | None = None,
    *,
    power_scope: str = "gpu",
    retry_s: float = 1.0,
    action: str = "grid",
    interval: float = 0.5,
) -> Node:
    """A node around a scripted server."""
    env = ServingEnv(
        server or ScriptedServer(),
        catalog.build("objective", {"base": "throughput_target", "power_scope": power_scope}),
        catalog.build("action", action),
        catalog.build("reward", "default"),
        interval_s=interval,
        horizon_s=60.0,
        power_caps_w=[100.0, 200.0, 300.0, 400.0],
    )
    return Node(name, env, retry_s)
