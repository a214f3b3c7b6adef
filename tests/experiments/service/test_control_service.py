"""The control service: flat memory, records by day, what it tells, settings read again."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import ValidationError
from prometheus_client.parser import text_string_to_metric_families

from baselines.fixed_knobs import FixedKnobs
from baselines.governor import Governor
from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import make_simulated
from envs.knobs import Knobs
from envs.serving import ServingEnv
from experiments.app import schemas
from experiments.app.composition import typed
from experiments.service.config import ControlConfig, ServiceConfig
from experiments.service.daily_records import DailyRecords
from experiments.service.exposition import COUNTERS, GAUGES, Exposition
from experiments.service.reloading import Asked, changes, flat
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


def reloaded(service: ControlService, asked: Asked) -> None:
    """Has settings read again, and an interval pass."""
    service.ask_reload(lambda: asked)
    service.run(intervals=1)


def asked(**changed: Any) -> Asked:
    """Returns what some settings ask for, by key with double underscores for dots."""
    settings = BEFORE | {key.replace("__", "."): value for key, value in changed.items()}
    objective = {
        "base": "throughput_target",
        "target": {"value": settings["objective.target.value"]},
        "power_scope": settings["objective.power_scope"],
        "qos": {"warmup_s": settings["objective.qos.warmup_s"]},
    }
    return Asked(
        catalog.build("objective", objective),
        Governor(hold_s=settings["controller.hold_s"], high=settings["controller.high"]),
        settings,
    )


BEFORE = {
    "objective.target.value": 0.5,
    "objective.power_scope": "gpu",
    "objective.qos.warmup_s": 0.0,
    "controller._target_": "governor",
    "controller.hold_s": 5.0,
    "controller.high": 3.0,
    "interval": 0.5,
    "server.control": True,
    "hydra.run.dir": "outputs/control",
}


@pytest.fixture
def governed(env: ServingEnv, tmp_path: Path) -> Iterator[ControlService]:
    """A service whose settings are those above."""
    controller = Governor(hold_s=5.0, high=3.0)
    controller.bind(env.context)
    service = ControlService(env, controller, ServiceConfig(port=0), tmp_path, settings=BEFORE)
    yield service
    service.close()


def test_targets_are_read_again_and_wrong_ones_change_nothing(
    governed: ControlService, env: ServingEnv
) -> None:
    def wrong() -> Asked:
        raise ConfigurationError("objective.target: no")

    governed.run(intervals=3)
    before = env.objective
    governed.ask_reload(wrong)
    governed.run(intervals=1)
    assert env.objective is before
    reloaded(governed, asked(objective__target__value=0.25))
    assert env.objective is not before
    told = samples(get(governed, "/metrics")[1])
    assert told["pals_reloads_total", "refused"] == 1
    assert told["pals_reloads_total", "done"] == 1


def test_every_setting_that_was_changed_is_taken_or_said_to_need_a_restart(
    governed: ControlService, env: ServingEnv, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bound = env.objective.power_scope, env.objective.qos
    reloaded(
        governed,
        asked(
            objective__target__value=0.25, controller__hold_s=1.0, interval=1.0,
            server__control=False, objective__qos__warmup_s=9.0, objective__power_scope="system",
            hydra__run__dir="elsewhere", server__url="http://127.0.0.1:1",
        ),
    )  # fmt: skip
    assert "objective.target.value is 0.25 now" in caplog.text
    assert "controller.hold_s is 1.0 now" in caplog.text
    waiting = [line for line in caplog.messages if "needs a restart" in line]
    assert [line.split()[0] for line in waiting] == [
        "hydra.run.dir", "interval", "objective.power_scope", "objective.qos.warmup_s",
        "server.control", "server.url",
    ]  # fmt: skip
    assert governed._controller.hold_s == 1.0  # type: ignore[attr-defined]
    assert (env.objective.power_scope, env.objective.qos) == bound
    told = samples(get(governed, "/metrics")[1])
    assert told["pals_reloads_total", "needs_restart"] == 1
    caplog.clear()
    reloaded(governed, asked(objective__target__value=0.25, controller__hold_s=1.0))
    assert "none was changed" in caplog.text


def test_an_objective_that_was_not_changed_does_not_begin_again(
    governed: ControlService, env: ServingEnv
) -> None:
    governed.run(intervals=2)
    before = env.objective
    reloaded(governed, asked(controller__high=4.0))
    assert env.objective is before


def test_another_controller_needs_a_restart_with_all_that_it_is_given() -> None:
    other = BEFORE | {"controller._target_": "static", "controller.hold_s": 1.0}
    found = changes(BEFORE, other, frozenset({"hold_s"}))
    assert found.restart == ["controller._target_", "controller.hold_s"]
    assert found.controller == []


def test_settings_are_told_by_their_whole_keys() -> None:
    config = ControlConfig(objective={"target": {"value": 1.0}}, interval=2.0)
    told = flat(config)
    assert told["objective.target.value"] == 1.0
    assert told["interval"] == 2.0
    assert told["service.port"] == 9464


def test_the_first_setting_that_changes_a_knob_is_counted(env: ServingEnv, tmp_path: Path) -> None:
    highest = env.system.knob_limits.highest
    for cap_w, changed in ((highest.power_cap_w, 0.0), (300.0, 1.0)):
        controller = FixedKnobs(Knobs(cap_w, highest.max_num_seqs))
        controller.bind(env.context)
        service = ControlService(env, controller, ServiceConfig(port=0), tmp_path)
        try:
            service.run(intervals=3)
            told = samples(get(service, "/metrics")[1])
        finally:
            service.close()
        assert told["pals_knob_changes_total", ""] == changed


def test_metrics_tell_modelled_watts_from_measured_ones(service: ControlService) -> None:
    service.run(intervals=1)
    assert samples(get(service, "/metrics")[1])["pals_power_modelled", ""] == 1.0


def test_a_service_that_only_watches_counts_no_change_and_says_so(
    env: ServingEnv, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    env.system.facts = {"control": False}
    controller = FixedKnobs(Knobs(300.0, 8))
    controller.bind(env.context)
    service = ControlService(env, controller, ServiceConfig(port=0), tmp_path)
    try:
        service.run(intervals=1)
        told = samples(get(service, "/metrics")[1])
    finally:
        service.close()
    assert "decided, not set" in caplog.text
    assert told["pals_knob_changes_total", ""] == 0
    assert told["pals_sets_knobs", ""] == 0


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


def test_an_objective_without_slos_takes_those_of_the_one_before_away(env: ServingEnv) -> None:
    env.reset(seed=1)
    env.replace_objective(catalog.build("objective", "latency_slo"))
    server = env.system._fleet.servers[0]
    assert np.isfinite(server.ttft_slo_s)
    env.replace_objective(catalog.build("objective", "power_budget"))
    assert np.isinf(server.ttft_slo_s)


@pytest.mark.parametrize(
    "error",
    [
        yaml.YAMLError("while scanning a simple key"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ValidationError("Value 'abc' could not be converted to Float"),
        HydraException("In 'control': Could not find 'experiment/site'"),
        FileNotFoundError(2, "No such file or directory", "site.yaml"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_file_that_cannot_be_read_again_changes_nothing(
    error: Exception, service: ControlService, caplog: pytest.LogCaptureFixture
) -> None:
    def unreadable() -> Asked:
        raise error

    service.ask_reload(unreadable)
    service.run(intervals=3)
    assert caplog.text.count("the settings were not taken") == 1
    assert samples(get(service, "/metrics")[1])["pals_reloads_total", "refused"] == 1


def test_memory_does_not_grow_with_time(service: ControlService) -> None:
    service._env.interval_s = 3600.0 / 64  # an hour of means is full after 64 intervals
    service.exposition = Exposition(3600.0 / 64)
    service.run(intervals=300)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    service.run(intervals=1500)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # A chunk of simulated requests, 0.1 MB, is held or not; no row is kept: 200 bytes an interval.
    assert grown < 400_000


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


def test_a_line_that_a_full_disk_cuts_off_is_taken_back(tmp_path: Path) -> None:
    records = DailyRecords(tmp_path, lambda: 0.0)
    records.append({"a": 1.0})
    (file,) = tmp_path.iterdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 5, hard))
    try:
        with pytest.raises(OSError, match=r"No space|too large"):
            records.append({"a": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    records.append({"a": 3.0})
    records.close()
    assert [json.loads(line)["a"] for line in file.read_text().splitlines()] == [1.0, 3.0]


def test_a_record_that_is_taken_away_while_it_is_written_begins_again(tmp_path: Path) -> None:
    records = DailyRecords(tmp_path / "records", lambda: 0.0)
    records.append({"a": 1.0})
    shutil.rmtree(tmp_path / "records")
    records.append({"a": 2.0})
    records.close()
    (file,) = (tmp_path / "records").iterdir()
    assert [json.loads(line)["a"] for line in file.read_text().splitlines()] == [2.0]


@pytest.mark.parametrize("text", ["", "- a\n", "objective: {target: {value: 0.5}}\n"])
def test_settings_that_would_be_passed_over_are_refused(text: str, tmp_path: Path) -> None:
    """A file that is being written, or that has lost its first line, changes no target."""
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "site.yaml").write_text(text)
    search = f"hydra.searchpath=[file://{tmp_path}]"
    schemas.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(catalog.CONF_DIR)):
        node = compose("control", overrides=[search, "experiment=site"])
    with pytest.raises(ConfigurationError, match=r"experiment: .*@package _global_"):
        typed(ControlConfig, node)


def test_caps_that_others_changed_are_counted_and_recorded(
    service: ControlService, env: ServingEnv, tmp_path: Path
) -> None:
    env.system.extras = {"cap_changes_by_others": 1.0}  # as a live server tells
    service.run(intervals=2)
    told = samples(get(service, "/metrics")[1])
    (file,) = tmp_path.glob("intervals-*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert told["pals_cap_changes_by_others_total", ""] == 2
    assert [row["cap_changes_by_others"] for row in rows] == [1.0, 1.0]


def test_what_is_known_of_server_and_device_is_in_its_record(
    service: ControlService, tmp_path: Path, env: ServingEnv
) -> None:
    assert json.loads((tmp_path / "server.json").read_text()) == env.system.facts


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
