"""The service from the command line: how it begins and ends, and what it says of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_support import PATIENCE_S, FakeVllm, free_port, wait_for

from envs.errors import ConfigurationError
from envs.live.guard import ROOT
from envs.live.http_client import HttpClient, authorization


def command(url: str, out: Path, *more: str) -> list[str]:
    """Returns the service's command line for NVIDIA GPUs, which are fake here."""
    return [
        sys.executable, "-m", "experiments.control", *more, f"server.url={url}",
        "gpu=a100_sxm4_80gb", "controller=static", "server.control=true",
        "server.capacity_tok_s=300", "server.call_timeout_s=20", "service.port=0",
        f"hydra.run.dir={out}",
    ]  # fmt: skip


@contextmanager
def service(
    url: str, out: Path, *more: str, last: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A running service, whose output is in ``out/said``."""
    out.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (out / "said").open("w") as said:
        process = subprocess.Popen(
            [*command(url, out, *more), *last],
            env=os.environ | {"PYTHONPATH": path},
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until_said(out: Path, text: str) -> None:
    wait_for(lambda: text in (out / "said").read_text(), 3 * PATIENCE_S)


def test_what_cannot_be_put_back_is_said_and_the_code_is_not_0(
    fake_vllm: FakeVllm, fake_gpus: Any, tmp_path: Path
) -> None:
    fake_vllm.client.call("PUT", "/pals/batch_limit", {"max_num_seqs": 6})
    fake_gpus.set({"limit": 250_000})
    with service(fake_vllm.url, tmp_path, "controller.max_num_seqs=4") as process:
        wait_until_said(tmp_path, "knobs: ")
        wait_for(lambda: fake_vllm.limit()["max_num_seqs"] == 4)
        os.kill(fake_vllm.process.pid, signal.SIGSTOP)
        fake_gpus.change(0, lost=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(2 * PATIENCE_S) == 1
        said = (tmp_path / "said").read_text()
        assert "everything is put back" not in said
        assert re.search(rf"server\.max_num_seqs, .*{fake_vllm.url}, found 6: .*hangs", said)
        assert re.search(r"server\.device, power cap of GPU-\S+, found 250 W: .*lost", said)
        (note,) = Path(os.environ["PALS_RUN_DIR"]).glob("*.cap.json")
        assert json.loads(note.read_text())["found_mw"] == 250_000
        fake_gpus.change(0, lost=False)
        os.kill(fake_vllm.process.pid, signal.SIGCONT)
    wait_for(lambda: fake_vllm.limit()["max_num_seqs"] == 6)  # the guard goes on trying
    wait_for(lambda: fake_gpus.limits_w == [250.0])
    wait_for(lambda: not list(Path(os.environ["PALS_RUN_DIR"]).glob("*")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("delay_s", [0.6, 1.4, 2.2])
def test_signals_while_it_starts_end_nothing_but_cleanly(
    fake_vllm: FakeVllm, fake_gpus: Any, tmp_path: Path, number: signal.Signals, delay_s: float
) -> None:
    fake_gpus.set({"limit": 250_000})
    with service(fake_vllm.url, tmp_path) as process:
        time.sleep(delay_s)
        process.send_signal(number)
        if number == signal.SIGHUP:
            wait_until_said(tmp_path, "knobs: ")
            process.send_signal(signal.SIGTERM)
        assert process.wait(2 * PATIENCE_S) == 0
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said
    assert re.search("ended by SIGTERM", said.splitlines()[-1])
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in said.splitlines())
    assert fake_gpus.limits_w == [250.0]
    assert fake_vllm.limit()["owner"] is None
    wait_for(lambda: not list(Path(os.environ["PALS_RUN_DIR"]).glob("*")))


def test_settings_that_need_a_restart_are_named_on_sighup(
    fake_vllm: FakeVllm, fake_gpus: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "etc" / "experiment"
    folder.mkdir(parents=True)
    site = folder / "site.yaml"

    def write(interval: float, target: float, floor_w: int) -> None:
        asked = {
            "interval": interval,
            "objective": {"target": {"value": target}},
            "server": {"cap_floor_w": floor_w},
        }
        site.write_text("# @package _global_\n" + yaml.safe_dump(asked))

    write(0.5, 0.5, 110)
    options = ["--config-dir", str(tmp_path / "etc"), "experiment=site"]
    out = tmp_path / "out"
    with service(fake_vllm.url, out, *options) as process:
        wait_until_said(out, "knobs: ")
        write(1.0, 0.25, 120)
        process.send_signal(signal.SIGHUP)
        wait_until_said(out, "server.cap_floor_w was changed; that needs a restart")
        said = (out / "said").read_text()
        assert "INFO objective.target.value is 0.25 now" in said
        assert "WARNING interval was changed; that needs a restart" in said
        process.send_signal(signal.SIGTERM)
        assert process.wait(2 * PATIENCE_S) == 0


@pytest.mark.parametrize("url", ["http://a:80800", "http://a:b", "http://[::1", "http://a b"])
def test_an_address_that_is_none_is_told_by_its_key(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"server\.url: .* is no http"):
        HttpClient(url, {}, 1.0)


def test_a_key_that_no_header_can_carry_is_told_and_the_end_of_its_line_taken_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_KEY", "secret\n")
    assert authorization("SOME_KEY") == {"Authorization": "Bearer secret"}
    for key in ("se\ncret", "schlüssel"):
        monkeypatch.setenv("SOME_KEY", key)
        with pytest.raises(ConfigurationError, match=r"server\.api_key_env: .*SOME_KEY") as told:
            authorization("SOME_KEY")
        assert key not in str(told.value)


def test_the_address_is_tried_before_the_device(fake_gpus: Any, tmp_path: Path) -> None:
    fake_gpus.set({}, driver=False)
    with service(f"http://127.0.0.1:{free_port()}", tmp_path) as process:
        assert process.wait(2 * PATIENCE_S) == 1
    said = (tmp_path / "said").read_text()
    assert "nothing answers" in said
    assert "server.url" in said
    assert "nvml" not in said.lower()
