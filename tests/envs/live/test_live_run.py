"""The command ``experiments.run`` on a live server: its record outlives a killed process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from live_support import PATIENCE_S, FakeVllm, free_port, wait_for

from envs.errors import ServerError
from envs.live.guard import ROOT
from envs.live.http_client import HttpClient


def command(server: FakeVllm, out: Path, seconds: float) -> list[str]:
    return [
        sys.executable, "-m", "experiments.run", "server=vllm_cpu", f"server.url={server.url}",
        "server.control=true", "server.send_load=true",
        f"server.server_pid={server.process.pid}", "server.device.mechanism=signals",
        "server.device.use_rapl=false", "server.launch.model=null", "server.max_num_seqs=8",
        "server.capacity_tok_s=300", "workload.load=null", "workload.rate=4",
        "workload.prompt_scale=0.1", "workload.output_scale=0.1", "action.max_num_seqs=[4,8]",
        "controller=static", "interval=0.25", f"duration={seconds}",
        "objective.qos.warmup_s=0", f"server.call_timeout_s={PATIENCE_S}",
        f"server.max_client_lag_s={PATIENCE_S}", f"hydra.run.dir={out}",
    ]  # fmt: skip


def test_a_killed_run_keeps_its_record_and_the_next_one_is_whole(
    fake_vllm: FakeVllm, tmp_path: Path
) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    journal = tmp_path / "intervals.jsonl"
    process = subprocess.Popen(
        command(fake_vllm, tmp_path, 600.0), env=environment, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(
            lambda: journal.is_file() and journal.read_bytes().count(b"\n") >= 6, 3 * PATIENCE_S
        )
    finally:
        process.kill()
        process.wait()
    rows = pandas.read_json(journal, lines=True)
    assert len(rows) >= 6
    assert rows["time_s"].is_monotonic_increasing
    assert {"power_w", "output_tokens", "interval_overrun_s"} <= set(rows)
    assert not (tmp_path / "summary.json").exists()
    wait_for(lambda: fake_vllm.limit()["max_num_seqs"] == 8)

    done = subprocess.run(
        command(fake_vllm, tmp_path, 2.0), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not journal.exists()
    assert len(pandas.read_parquet(tmp_path / "intervals.parquet")) == 8
    assert (tmp_path / "summary.json").is_file()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_run_that_is_told_to_end_leaves_its_whole_record(
    fake_vllm: FakeVllm, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    journal = tmp_path / "intervals.jsonl"
    process = subprocess.Popen(
        command(fake_vllm, tmp_path, 600.0),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_for(lambda: journal.is_file() and journal.read_bytes().count(b"\n") >= 6, 3 * PATIENCE_S)
    process.send_signal(number)
    assert process.wait(2 * PATIENCE_S) == code
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["interrupted"] is True
    assert summary["server"]["url"] == fake_vllm.url
    assert len(pandas.read_parquet(tmp_path / "intervals.parquet")) >= 6
    assert (tmp_path / "config.yaml").is_file()
    assert not journal.exists()
    assert fake_vllm.limit()["max_num_seqs"] == 8


def test_the_service_controls_until_it_is_told_to_end(fake_vllm: FakeVllm, tmp_path: Path) -> None:
    port = free_port()
    arguments = [
        part for part in command(fake_vllm, tmp_path, 600.0)[3:] if "send_load" not in part
    ]
    arguments = [part for part in arguments if not part.startswith("workload")]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.control", *arguments, f"service.port={port}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    status = HttpClient(f"http://127.0.0.1:{port}", {}, PATIENCE_S)

    def metrics() -> str:
        try:
            return status.call("GET", "/metrics")[1].decode()
        except ServerError:
            return ""

    try:
        wait_for(lambda: "pals_intervals_total 4.0" in metrics(), 3 * PATIENCE_S)
        assert fake_vllm.limit()["owner"] is not None
        assert status.call("GET", "/healthz")[0] == 200
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: 'pals_reloads_total{outcome="done"} 1.0' in metrics(), 2 * PATIENCE_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(2 * PATIENCE_S) == 0
    finally:
        process.kill()
    assert process.stdout is not None
    said = process.stdout.read()
    first = said.splitlines()[0]
    assert re.match(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO http://.*are set; .*none are sent", first
    )
    assert "everything is put back" in said
    assert fake_vllm.limit()["owner"] is None
    (records,) = tmp_path.glob("intervals-*.jsonl")
    assert len(records.read_text().splitlines()) >= 4
