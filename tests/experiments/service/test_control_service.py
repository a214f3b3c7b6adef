"""The control service: flat memory, records by day, what it tells, settings read again."""

from __future__ import annotations

import json
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from baselines.fixed_knobs import FixedKnobs
from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import make_simulated
from envs.knobs import Knobs
from envs.serving import ServingEnv
from experiments.service.config import ServiceConfig
from experiments.service.daily_records import DailyRecords
from experiments.service.exposition import COUNTERS, GAUGES, Exposition
from experiments.service.service import ControlService
from experiments.service.status_server import StatusServer


@pytest.fixture
def env() -> Iterator[ServingEnv]:
    env = make_simulated(workload={"base": "poisson_gsm8k", "load": 0.5}, duration_s=60.0)
    yield env
    env.close()


@pytest.fixture
def service(env: ServingEnv, tmp_path: Path) -> Iterator[ControlService]:
    controller = FixedKnobs(Knobs(300.0, 32))
    controller.bind(env.context)
    service = ControlService(env, controller, ServiceConfig(port=0), tmp_path)
    yield service
    service.close()


def get(service: ControlService, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{service.status.port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> dict[tuple[str, str], float]:
    """Returns values by name and label value."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_it_tells_agrees_with_what_it_records(service: ControlService, tmp_path: Path) -> None:
    service.run(intervals=40)
    told = samples(get(service, "/metrics")[1])
    (file,) = tmp_path.glob("intervals-*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 40
    assert told["pals_intervals_total", ""] == 40
    energy, tokens = (sum(row[key] for row in rows) for key in ("energy_gpu_j", "output_tokens"))
    assert told["pals_energy_joules_total", ""] == pytest.approx(energy)
    assert told["pals_output_tokens_total", ""] == pytest.approx(tokens)
    assert told["pals_tokens_per_joule", "hour"] == pytest.approx(tokens / energy)
    assert told["pals_power_cap_asked_watts", ""] == 300.0
    assert told["pals_max_num_seqs_asked", ""] == 32.0
    names = {name for name, _ in told}
    assert set(GAUGES) <= names
    assert {f"{name}_total" for name in COUNTERS} <= names


def test_it_is_well_while_it_decides(service: ControlService) -> None:
    service.run(intervals=2)
    assert get(service, "/healthz") == (200, "ok")
    service._told_s -= 3600.0
    status, text = get(service, "/healthz")
    assert status == 503
    assert "no decision for" in text
    assert get(service, "/")[0] == 404


def test_targets_are_read_again_and_wrong_ones_change_nothing(
    service: ControlService, env: ServingEnv, tmp_path: Path
) -> None:
    def asked() -> Any:
        return catalog.build("objective", {"base": "throughput_target", "target": {"value": 0.25}})

    def wrong() -> Any:
        raise ConfigurationError("objective.target: no")

    service.run(intervals=3)
    before = env.objective
    service.ask_reload(wrong)
    service.run(intervals=1)
    assert env.objective is before
    service.ask_reload(asked)
    service.run(intervals=3)
    assert env.objective is not before
    told = samples(get(service, "/metrics")[1])
    assert told["pals_reloads_total", "refused"] == 1
    assert told["pals_reloads_total", "done"] == 1


def test_a_new_objective_leaves_server_and_knobs_alone(env: ServingEnv) -> None:
    env.reset(seed=1)
    action = env.encoding.encode(Knobs(250.0, 16), env._requested)
    for _ in range(4):
        _, _, _, _, info = env.step(action)
    time_s = info["telemetry"].time_s
    objective = catalog.build("objective", "power_budget")
    observation = env.replace_objective(objective)
    assert observation.shape == env.observation_space.shape
    assert env._requested.power_cap_w == info["knobs"].power_cap_w
    observation, _, _, _, info = env.step(action)
    assert info["telemetry"].time_s == pytest.approx(time_s + env.interval_s)
    assert np.isfinite(info["conditions"].power_budget_w)
    assert observation in env.observation_space


def test_memory_does_not_grow_with_time(service: ControlService) -> None:
    service._env.interval_s = 3600.0 / 64  # an hour of means is full after 64 intervals
    service.exposition = Exposition(3600.0 / 64)
    service.run(intervals=300)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    service.run(intervals=1500)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200_000  # 130 bytes an interval at most: no row is kept


def test_records_change_with_the_day_and_are_never_lost(tmp_path: Path) -> None:
    now = [86_399.0]
    records = DailyRecords(tmp_path, lambda: now[0])
    records.append({"a": 1.0})
    now[0] = 86_400.0
    records.append({"a": 2.0})
    records.close()
    again = DailyRecords(tmp_path, lambda: now[0])
    again.append({"a": 3.0})
    again.close()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["intervals-1970-01-01.jsonl", "intervals-1970-01-02.jsonl"]
    lines = (tmp_path / names[1]).read_text().splitlines()
    assert [json.loads(line)["a"] for line in lines] == [2.0, 3.0]


def test_a_full_disk_ends_the_record_and_not_the_control(
    service: ControlService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: DailyRecords, row: Any) -> None:
        raise OSError(28, "No space left on device", "intervals.jsonl")

    monkeypatch.setattr(DailyRecords, "append", full)
    service.run(intervals=5)
    assert caplog.text.count("could not be recorded") == 1
    assert samples(get(service, "/metrics")[1])["pals_intervals_total", ""] == 5


def test_a_port_that_is_taken_is_told() -> None:
    first = StatusServer("127.0.0.1", 0, lambda: None, lambda: b"")
    try:
        with pytest.raises(ConfigurationError, match=r"service\.port"):
            StatusServer("127.0.0.1", first.port, lambda: None, lambda: b"")
    finally:
        first.close()
