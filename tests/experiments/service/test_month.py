"""Memory of the service over a month, or as much of it as there is time for.

``PALS_MONTH_INTERVALS=518400 PALS_MONTH_INTERVAL_S=5`` runs a whole month of intervals of 5 s
within a quarter of an hour of an idle core; intervals of 1 s would take five times as long.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from month_support import DAY_S, StubGpu, resident_bytes, without_waiting

from baselines.base import KnobController
from envs.knobs import Knobs
from envs.live.config import VllmServerConfig
from envs.live.factory import make_live
from envs.observations import Observation
from experiments.service.config import ServiceConfig
from experiments.service.daily_records import DailyRecords
from experiments.service.service import ControlService

INTERVALS = int(os.environ.get("PALS_MONTH_INTERVALS", 40_000))
INTERVAL_S = float(os.environ.get("PALS_MONTH_INTERVAL_S", 1.0))


class Wandering(KnobController):
    """Changes its knobs in every tenth interval."""

    def decide(self, observation: Observation, state: Any) -> tuple[Knobs, Any]:
        count = (state or 0) + 1
        turn = count // 10
        return Knobs((200.0, 300.0, 400.0)[turn % 3], (8, 16, 64)[turn % 3]), count


class Days(DailyRecords):
    """Counts the lines of a day that is over and takes its file away, as an operator would."""

    lines: list[int]

    def append(self, row: Any) -> None:
        before = self._day
        super().append(row)
        if before and self._day != before:
            (file,) = self._folder.glob(f"intervals-{before}.jsonl")
            with file.open("rb") as stream:
                self.lines.append(sum(1 for _ in stream))
            file.unlink()


@pytest.mark.long
def test_memory_is_flat_over_simulated_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALS_RUN_DIR", str(tmp_path / "private"))
    clock, stub = without_waiting(monkeypatch)
    env = make_live(
        server=VllmServerConfig(
            url="http://stub:1", control=True, device=StubGpu(), capacity_tok_s=1000.0,
            on_failure="restart", call_timeout_s=2.0, metrics_attempts=2,
        ),
        workload={"base": "external", "rate": 5.0},
        objective={"base": "throughput_target", "target": {"value": 0.25}},
        interval_s=INTERVAL_S,
        duration_s=float(DAY_S),
    )  # fmt: skip
    controller = Wandering()
    controller.bind(env.context)
    service = ControlService(env, controller, ServiceConfig(port=0), tmp_path)
    service._records = records = Days(tmp_path, clock.unix)
    records.lines = []
    step, sizes = max(1000, INTERVALS // 40), []
    try:
        service.run(intervals=4000)  # an hour of means is full, and all code was used once
        for _ in range(INTERVALS // step):
            service.run(intervals=step)
            gc.collect()
            sizes.append(resident_bytes())
            done, mib = len(sizes) * step, sizes[-1] / 2**20
            sys.stderr.write(f"{done} intervals, {clock.now_s / DAY_S:.2f} days: {mib:.2f} MiB\n")
    finally:
        service.close()
        env.close()
    half = len(sizes) // 2
    slope = float(np.polyfit(np.arange(half, len(sizes)) * step, sizes[half:], 1)[0])
    grown = sizes[-1] - sizes[half]
    sys.stderr.write(
        f"\n{INTERVALS} intervals, {len(records.lines)} whole days, {stub.restarts} restarts of "
        f"the server: {slope:.2f} bytes an interval, {grown / 1024:.0f} KiB over the second half; "
        f"{sizes[-1] / 2**20:.0f} MiB at the end\n"
    )
    a_day = DAY_S / INTERVAL_S
    assert all(count >= 0.999 * a_day for count in records.lines[1:])
    assert slope * a_day * 30 < 64 * 2**20 or grown < 2**20
