"""A server that exists on paper only: its context, its observations and its profile."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from baselines.base import Outcome
from baselines.profile import Profile, ProfileRow
from envs import catalog
from envs.context import ControlContext
from envs.knobs import KnobLimits, Knobs
from envs.objectives.qos import QoSConfig
from envs.observations import Observation, ObservationLayout

LIMITS = KnobLimits(100.0, 400.0, 64, 210.0, 1410.0)
CAPS = [150.0, 200.0, 250.0, 300.0, 350.0, 400.0]
BATCHES = [1, 4, 8, 16, 32, 64]
SYSTEM = SimpleNamespace(
    knob_limits=LIMITS,
    num_gpus=4,
    capacity_tok_s=2000.0,
    rated_power_w=1500.0,
    offered_tok_s=1400.0,
    system_power=(1.05, 345.0),
)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that all tests here share, so that forests are fitted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALS_CACHE", str(session_cache))


@pytest.fixture
def make_context() -> Callable[..., ControlContext]:
    """Returns a function that builds a context with a given action encoding."""

    def build(
        action: str = "grid",
        *,
        sm_clock: bool = False,
        power_scope: str = "gpu",
        interval_s: float = 0.5,
    ) -> ControlContext:
        encoding = catalog.build("action", {"base": action, "sm_clock": sm_clock})
        encoding.bind(LIMITS, CAPS)
        return ControlContext(
            layout=ObservationLayout.for_system(SYSTEM),  # type: ignore[arg-type]
            encoding=encoding,
            limits=LIMITS,
            interval_s=interval_s,
            num_gpus=SYSTEM.num_gpus,
            capacity_tok_s=SYSTEM.capacity_tok_s,
            offered_tok_s=SYSTEM.offered_tok_s,
            system_power=SYSTEM.system_power,
            power_scope=power_scope,
            qos=QoSConfig(window_s=2.0),
        )

    return build


@pytest.fixture
def observe() -> Callable[..., NDArray[np.float32]]:
    """Returns a function that encodes an observation from a few named values."""
    layout = ObservationLayout.for_system(SYSTEM)  # type: ignore[arg-type]
    usual: dict[str, float] = {
        "target_tok_s": 1000.0,
        "throughput_tok_s": 1000.0,
        "output_tok_s": 1000.0,
        "power_w": 1000.0,
        "power_budget_w": math.inf,
        "ttft_slo_s": math.inf,
        "tpot_slo_s": math.inf,
        "last_power_cap_w": 400.0,
        "last_max_num_seqs": 64.0,
        "last_sm_clock_mhz": 1410.0,
    }

    def encode(**values: float) -> NDArray[np.float32]:
        named = {**usual, **values}
        return layout.encode(np.array([named.get(name, 0.0) for name in Observation._fields]))

    return encode


def truth(cap: float, batch: int, tensor_parallel: int = 4) -> tuple[float, float, float]:
    """Throughput, power and clock of the paper server: concave in cap and batch."""
    clock = min(1.0, ((cap - 60.0) / 340.0)) ** 0.4
    throughput = 2000.0 * clock * (batch / (batch + 16.0)) * 1.25 * (tensor_parallel / 4.0)
    power = tensor_parallel * min(cap, 90.0 + 310.0 * clock**3 * (0.6 + 0.4 * batch / 64.0))
    return throughput, power, 1410.0 * clock


@pytest.fixture(scope="session")
def profile() -> Profile:
    """The paper server's profile over caps, batch limits and tensor-parallel sizes."""
    rows = []
    for tensor_parallel in (2, 4):
        for cap in CAPS:
            for batch in BATCHES:
                throughput, power, clock = truth(cap, batch, tensor_parallel)
                rows.append(
                    ProfileRow(
                        power_cap_w=cap,
                        max_num_seqs=batch,
                        tensor_parallel=tensor_parallel,
                        expert_parallel=1,
                        data_parallel=1,
                        throughput_tok_s=throughput,
                        prompt_tok_s=4.0 * throughput,
                        power_w=power,
                        tpot_s=batch / throughput,
                        ttft_s=0.2,
                        running=float(batch),
                        context_tokens=500.0,
                        sm_clock_mhz=clock,
                    )
                )
    return Profile(tuple(rows), 4, 1, 1, key="paper-server")


class PaperPreparation:
    """Hands out the profile, and evaluates settings by the same formulas.

    Attributes:
        evaluated: How often the future was looked into.
    """

    def __init__(
        self, profile: Profile, evaluate: Callable[[Knobs], Outcome] | None = None
    ) -> None:
        self._profile = profile
        self._evaluate = evaluate
        self.profiles = 0
        self.evaluated = 0

    def profile(self) -> Profile:
        self.profiles += 1
        return self._profile

    def evaluate(self, settings: list[Knobs]) -> list[Outcome]:
        assert self._evaluate is not None, "only an oracle may look ahead"
        self.evaluated += 1
        return [self._evaluate(knobs) for knobs in settings]


@pytest.fixture
def prepared(profile: Profile) -> Callable[..., Any]:
    """Returns a function that binds and prepares a controller built from a choice.

    Forests are kept small: what is tested is what is done with them.
    """

    def prepare(
        choice: Any, context: ControlContext, evaluate: Callable[[Knobs], Outcome] | None = None
    ) -> Any:
        named = {"base": choice} if isinstance(choice, str) else dict(choice)
        if "forest" in catalog.load("controller", named["base"]):
            named = {"forest": {"trees": 10}, **named}
        controller = catalog.build("controller", named)
        controller.bind(context)
        controller.prepare(PaperPreparation(profile, evaluate))
        return controller

    return prepare


@pytest.fixture
def knobs_of() -> Callable[[ControlContext, Any], Knobs]:
    """Returns a function that decodes an action into plain knobs."""

    def decode(context: ControlContext, action: Any) -> Knobs:
        knobs = context.encoding.decode(action, context.highest)
        clock = knobs.sm_clock_mhz
        locked = clock is not None and bool(np.isfinite(clock))
        return Knobs(
            float(knobs.power_cap_w), int(knobs.max_num_seqs), float(clock) if locked else None
        )

    return decode
