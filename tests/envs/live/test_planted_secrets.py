"""Secrets are planted in the configuration of live runs, and looked for in all that is left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from live_support import FAKE_VLLM, FakeVllm, free_port

from envs.live.guard import ROOT

PLANTED = ("pw-in-url-31", "login-41x", "argument-key-59", "inherited-26z", "Path-key-83")
VARIABLES = {
    "PLANTED_TOKEN": PLANTED[3], "VLLM_API_KEY": PLANTED[2], "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}  # fmt: skip
QUICK = (
    "server=vllm_cpu", "server.control=true", "server.send_load=true",
    "server.device.mechanism=signals", "server.device.use_rapl=false", "server.max_num_seqs=8",
    "server.capacity_tok_s=300", "workload.load=null", "workload.rate=4",
    "workload.prompt_scale=0.1", "workload.output_scale=0.1", "action.max_num_seqs=[4,8]",
    "controller=static", "interval=0.25", "duration=1", "objective.qos.warmup_s=0",
    "tracker=wandb", "server.max_client_lag_s=60", "server.call_timeout_s=60",
)  # fmt: skip


def run(out: Path, *arguments: str) -> str:
    return run_only(out, *arguments, *QUICK)


def run_only(out: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.run", *arguments, f"hydra.run.dir={out}"],
        env=os.environ | VARIABLES | {"PYTHONPATH": str(ROOT), "TMPDIR": str(out.parent / "tmp")},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return done.stdout + done.stderr


def attached(server: FakeVllm) -> list[str]:
    url = server.url.replace("http://", f"http://me:{PLANTED[0]}@")
    return [f"server.url={url}", f"server.server_pid={server.process.pid}",
            "server.launch.model=null"]  # fmt: skip


def launched() -> list[str]:
    inherited = "${oc.env:PLANTED_TOKEN}"
    variables = {
        "PYTHONPATH": FAKE_VLLM, "DB_LOGIN": PLANTED[1], "HF_TOKEN": inherited,
        "VLLM_REMOTE": inherited,
    }  # fmt: skip
    return [
        *(f"+server.launch.environment.{name}={value}" for name, value in variables.items()),
        "server.launch.model=fake", f"server.launch.python={sys.executable}",
        f"server.launch.port={free_port()}",
        f"server.launch.arguments=[--api-key,{PLANTED[2]}]",
    ]  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path / "out"


def leaks(text: str, folder: Path) -> list[str]:
    found = [f"{secret} on the terminal" for secret in PLANTED if secret in text]
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            found += [f"{secret} in {file}" for secret in PLANTED if secret.encode() in content]
    return found


@pytest.mark.parametrize("how", ["attached", "launched"])
def test_no_secret_is_left_anywhere(fake_vllm: FakeVllm, out: Path, how: str) -> None:
    text = run(out, *(attached(fake_vllm) if how == "attached" else launched()))
    assert (out / "summary.json").is_file(), text
    assert (out / ".hydra" / "config.yaml").is_file()
    assert list(out.rglob("run-*.wandb"))
    assert leaks(text, out) == []
    for name in ("summary.json", "config.yaml", "intervals.parquet", ".hydra/config.yaml"):
        assert stat.S_IMODE((out / name).stat().st_mode) == 0o600, name
    for log in (out.parent / "tmp").rglob("server-*.log"):
        assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize("debug", ["off", "on"])
def test_no_secret_is_in_a_message(out: Path, debug: str) -> None:
    url = f"http://me:{PLANTED[0]}@127.0.0.1:{free_port()}/v1/key/{PLANTED[4]}"
    text = run(out, f"server.url={url}", "server.launch.model=null", f"debug={debug}")
    assert "nothing answers" in text
    assert leaks(text, out) == []


def test_no_secret_is_in_the_record_of_a_sweep(out: Path) -> None:
    url = f"http://me:{PLANTED[0]}@127.0.0.1:{free_port()}/v1/key/{PLANTED[4]}"
    text = run(
        out, "-m", f"hydra.sweep.dir={out}", f"server.url={url}", "server.launch.model=null",
        "seed=1,2",
    )  # fmt: skip
    assert text.count("nothing answers") == 2
    assert (out / "multirun.yaml").is_file()
    assert leaks(text, out) == []


INLINE = "inline-secret-77"
BROKEN = {
    "a value of another type": f"launch: {{environment: {{DB_LOGIN: {INLINE}}}, port: {INLINE}}}",
    "a list of values": f"launch: {{environment: {{DB_LOGIN: [{INLINE}]}}}}",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_no_secret_of_a_file_that_is_wrong_is_shown(
    out: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "own" / "server").mkdir(parents=True)
    file = tmp_path / "own" / "server" / "mine.yaml"
    file.write_text(f"defaults: [vllm_cpu, _self_]\n{content}\n")
    place = f"hydra.searchpath=[file://{tmp_path}/own]"
    text = run_only(out, place, "server=mine", "controller=static", "duration=1", "debug=on")
    assert "error: " in text
    assert INLINE not in text
    for left in out.rglob("*"):
        assert left.is_dir() or INLINE.encode() not in left.read_bytes(), left
