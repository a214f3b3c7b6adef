"""The reference schedules as vLLM's own scheduler does, step by step.

Together with ``test_engine_reference.py`` this ties the compiled engine to vLLM.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import vllm_scheduler
from support.reference_engine import Job
from support.reference_server import ReferenceServer, ServerFacts, Step

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


def ask_vllm(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [vllm_python(), vllm_scheduler.__file__],
        input=json.dumps(cases), capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    for case in found:
        case["steps"] = [[(name, count) for name, count in step] for step in case["steps"]]
    return found


class Recorder(ReferenceServer):
    """Notes what each step computes; every step takes one second."""

    def __init__(self, case: dict[str, Any]) -> None:
        facts = ServerFacts(
            step_model=np.zeros(1, dtype=STEP_MODEL).view(np.recarray)[0],
            blocks=case["blocks"], block_size=case["block_size"],
            max_num_seqs=case["max_num_seqs"], token_budget=case["token_budget"],
            max_model_len=case["context"], num_gpus=1, replicas=1, cap_w=1.0, clock_max_mhz=1.0,
            settling_s=0.0, limit_window_s=0.0, sensor_window_s=0.0, warming_s=0.0,
            alpha=1.0, beta_w=0.0, caching=case["caching"],
        )  # fmt: skip

        def known_by(place: int, text: int) -> Hashable:
            end = (place + 1) * case["block_size"]
            return ("shared", place) if end <= case["shared"] else (text, place)

        requests = (
            (float(step), prompt, output, partial(known_by, text=text))
            for step, prompt, output, text in case["requests"]
        )
        super().__init__(facts, requests)
        self.queries = self.hits = 0
        self.schedule: Schedule = []
        for step in range(case["steps"]):
            self.apply(1.0, case["limits"].get(str(step), self.limit))
            self.schedule.append([])
            self.advance(1.0)
            self.queries += self.engines[0].queries
            self.hits += self.engines[0].hits

    def _launch(self, works: list[list[tuple[Job, int]]], first: int) -> list[Step]:
        self.schedule[-1] = [(self.jobs.index(job), tokens) for job, tokens in works[0]]
        return [Step(self.now + 1.0, 0.0, 1.0, 0.0)]


def draw_case(rng: np.random.Generator, caching: bool = False) -> dict[str, Any]:
    block_size = int(rng.choice([1, 4, 16]))
    context = int(rng.integers(40, 300))
    seqs = int(rng.integers(1, 24))
    steps = np.sort(rng.integers(0, 120, size=40))
    shared = int(rng.integers(0, context // 4)) if caching else 0
    prompts = np.maximum(rng.integers(1, max(2, context * 2 // 3), size=40), shared)
    outputs = rng.integers(1, np.maximum(2, np.minimum(80, context - prompts)))
    alone = np.arange(40) + 100
    texts = np.where(rng.random(40) < 0.7, rng.integers(1, 8, size=40), alone)
    return {
        "caching": caching,
        "shared": shared,
        "block_size": block_size,
        "blocks": -(-context // block_size) + int(rng.integers(0, 900 // block_size)),
        "context": context + 1,  # vLLM keeps a place for the token it samples
        "max_num_seqs": seqs,
        "token_budget": seqs + int(rng.integers(0, 200)),
        "limits": {str(step): int(rng.integers(1, seqs + 1)) for step in rng.integers(1, 200, 3)},
        "requests": np.stack([steps, prompts, outputs, texts], axis=1).tolist(),
        "steps": 400,
        "async": False,
    }


def test_every_step_computes_what_vllms_scheduler_computes() -> None:
    rng = np.random.default_rng(0)
    cases = [draw_case(rng) for _ in range(CASES)]
    preemptions = 0
    for case, theirs in zip(cases, ask_vllm(cases), strict=True):
        ours = Recorder(case)
        assert ours.schedule == theirs["steps"]
        preemptions += sum(job.preemptions for job in ours.jobs)
    assert preemptions > CASES, "the caches were to be too small"


def test_every_step_finds_what_vllms_prefix_cache_finds() -> None:
    """Prompts that begin alike, sessions, caches that are too small, blocks that come back."""
    rng = np.random.default_rng(2)
    cases = [draw_case(rng, caching=True) for _ in range(CASES)]
    preemptions = hits = 0
    for case, theirs in zip(cases, ask_vllm(cases), strict=True):
        ours = Recorder(case)
        assert ours.schedule == theirs["steps"]
        assert (ours.queries, ours.hits) == (theirs["queries"], theirs["hits"])
        preemptions += sum(job.preemptions for job in ours.jobs)
        hits += ours.hits
    assert preemptions > CASES / 2, "the caches were to be too small"
    assert hits > 100 * CASES


def test_scheduling_ahead_delays_admissions_by_a_step_and_little_else() -> None:
    """vLLM schedules a step before it knows who has finished in the one before."""
    rng = np.random.default_rng(1)
    cases = [draw_case(rng) for _ in range(CASES // 3)]
    ahead = ask_vllm([case | {"async": True} for case in cases])
    for case, theirs in zip(cases, ahead, strict=True):
        ours = Recorder(case).schedule
        last, last_ahead = (
            max(i for i, step in enumerate(s) if step) for s in (ours, theirs["steps"])
        )
        assert last_ahead >= last - 2
        assert last_ahead <= last + len(case["requests"]) + 2
