"""The reference schedules as vLLM's own scheduler does, step by step.

Together with ``test_engine_reference.py`` this ties the compiled engine to vLLM.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import vllm_scheduler
from support.reference_server import Job, ReferenceServer, ServerFacts, Step

from envs.simulator.step_layout import STEP_MODEL

ROOT = Path(__file__).resolve().parents[3]
CASES = 100
Schedule = list[list[tuple[int, int]]]

pytestmark = [pytest.mark.live]


def vllm_python() -> Path:
    python = Path(os.environ.get("PALS_VLLM_PYTHON", ROOT / ".venv-live" / "bin" / "python"))
    if not python.exists():
        pytest.skip(f"no Python with vLLM at {python}; set PALS_VLLM_PYTHON")
    return python


def ask_vllm(cases: list[dict[str, Any]]) -> list[Schedule]:
    done = subprocess.run(
        [vllm_python(), vllm_scheduler.__file__],
        input=json.dumps(cases), capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return [[[(name, count) for name, count in step] for step in case] for case in found]


class Recorder(ReferenceServer):
    """Notes what each step computes; every step takes one second."""

    def __init__(self, case: dict[str, Any]) -> None:
        facts = ServerFacts(
            step_model=np.zeros(1, dtype=STEP_MODEL).view(np.recarray)[0],
            blocks=case["blocks"], block_size=case["block_size"],
            max_num_seqs=case["max_num_seqs"], token_budget=case["token_budget"],
            max_model_len=case["context"], num_gpus=1, replicas=1, cap_w=1.0, clock_max_mhz=1.0,
            settling_s=0.0, sensor_window_s=0.0, alpha=1.0, beta_w=0.0,
        )  # fmt: skip
        requests = ((float(step), prompt, output) for step, prompt, output in case["requests"])
        super().__init__(facts, requests)
        self.schedule: Schedule = []
        for step in range(case["steps"]):
            self.apply(1.0, case["limits"].get(str(step), self.limit))
            self.schedule.append([])
            self.advance(1.0)

    def _launch(self, work: list[tuple[Job, int]]) -> Step:
        self.schedule[-1] = [(self.jobs.index(job), tokens) for job, tokens in work]
        return Step(self.now + 1.0, 0.0, 1.0, 0.0, work)


def draw_case(rng: np.random.Generator) -> dict[str, Any]:
    block_size = int(rng.choice([1, 4, 16]))
    context = int(rng.integers(40, 300))
    seqs = int(rng.integers(1, 24))
    steps = np.sort(rng.integers(0, 120, size=40))
    prompts = rng.integers(1, max(2, context * 2 // 3), size=40)
    outputs = rng.integers(1, np.maximum(2, np.minimum(80, context - prompts)))
    return {
        "block_size": block_size,
        "blocks": -(-context // block_size) + int(rng.integers(0, 900 // block_size)),
        "context": context + 1,  # vLLM keeps a place for the token it samples
        "max_num_seqs": seqs,
        "token_budget": seqs + int(rng.integers(0, 200)),
        "limits": {str(step): int(rng.integers(1, seqs + 1)) for step in rng.integers(1, 200, 3)},
        "requests": np.stack([steps, prompts, outputs], axis=1).tolist(),
        "steps": 400,
        "async": False,
    }


def test_every_step_computes_what_vllms_scheduler_computes() -> None:
    rng = np.random.default_rng(0)
    cases = [draw_case(rng) for _ in range(CASES)]
    preemptions = 0
    for case, theirs in zip(cases, ask_vllm(cases), strict=True):
        ours = Recorder(case)
        assert ours.schedule == theirs
        preemptions += sum(job.preemptions for job in ours.jobs)
    assert preemptions > CASES, "the caches were to be too small"


def test_scheduling_ahead_delays_admissions_by_a_step_and_little_else() -> None:
    """vLLM schedules a step before it knows who has finished in the one before."""
    rng = np.random.default_rng(1)
    cases = [draw_case(rng) for _ in range(CASES // 3)]
    ahead = ask_vllm([case | {"async": True} for case in cases])
    for case, theirs in zip(cases, ahead, strict=True):
        ours = Recorder(case).schedule
        last, last_ahead = (max(i for i, step in enumerate(s) if step) for s in (ours, theirs))
        assert last_ahead >= last - 2
        assert last_ahead <= last + len(case["requests"]) + 2
