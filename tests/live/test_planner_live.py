"""The digital twin plans for a real server, beside rules, and on the simulator fitted to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from live_help import ROOT, attached

from envs import catalog
from envs.live.counted_lengths import counted
from envs.live.process import VllmProcess
from envs.workloads.poisson import Poisson

pytestmark = [pytest.mark.live, pytest.mark.long]
CONTROLLERS = ("static", "pals", "governor", "mpc")


def _experiment(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", *arguments], check=True, cwd=ROOT, timeout=500.0)


def test_the_twin_controls_a_real_server(vllm: VllmProcess, models: Path, tmp_path: Path) -> None:
    common = [
        "server=vllm_cpu", f"model={models}/olmoe",
        f"server.url={vllm.url}", f"server.server_pid={vllm.pid}",
        "server.control=true", "server.send_load=true", "server.call_timeout_s=5",
        "server.power_caps_w=[150,250,400]", "action.max_num_seqs=[8,16,32]",
        "workload.prompt_scale=0.2", "workload.output_scale=0.3",
    ]  # fmt: skip
    profile = tmp_path / "profile"
    _experiment(
        "experiments.profile", *common, "profile.settle_s=2", "profile.measure_s=4",
        f"hydra.run.dir={profile}",
    )  # fmt: skip
    out = tmp_path / "transfer"
    _experiment(
        "experiments.transfer", *common, f"model_path={models}/olmoe",
        f"profile.path={profile}/profile.json", f"controllers=[{','.join(CONTROLLERS)}]",
        "workload.load=0.5", "duration=30", "objective.qos.warmup_s=5", f"hydra.run.dir={out}",
    )  # fmt: skip
    sys.stderr.write("\n" + (out / "transfer.md").read_text() + "\n")
    rows = json.loads((out / "transfer.json").read_text())["rows"]
    live = {(row["controller"], row["metric"]): row["live"] for row in rows}
    assert {controller for controller, _ in live} == set(CONTROLLERS)
    served = {name: live[name, "throughput_tok_s"] for name in CONTROLLERS}
    assert served["mpc"] > 0.6 * served["static"]

    # What has been sent is what the server has counted: prompts of about 100, outputs of about 36.
    workload = counted(catalog.build("workload", "external"), attached(vllm))
    assert isinstance(workload, Poisson)
    assert 70.0 < workload.mean_prompt_tokens < 150.0
    assert 20.0 < workload.mean_output_tokens < 60.0
