"""TTFT at light load: waiting, the prompt's own steps, the front end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs import catalog
from experiments.calibration.data.readers.light_load import FILE, NAMES, FirstToken, read
from experiments.calibration.data.readers.powertrace_runs import RUNS, clock_limit
from experiments.calibration.validation.cross_validation import installed
from experiments.calibration.validation.first_tokens import (
    first_token_s,
    first_token_table,
    first_tokens,
)


def prompt(tokens: float, **run: float) -> FirstToken:
    known: dict[str, Any] = dict(run)
    return FirstToken("one", replace(RUNS["q8_h100_r4"], **known), tokens, tokens, 0.02)


def test_a_prompt_waits_for_half_a_step_and_for_a_whole_one_more_where_steps_are_planned() -> None:
    k = installed(catalog.build("gpu", "h100_sxm"))
    busy, free = prompt(100.0), prompt(100.0, running=1e-9)
    waits = first_token_s(busy, k) - first_token_s(free, k)
    assert 0.003 < waits < 0.009
    no_host = replace(k, step_s=0.0, sequence_s=0.0, mixed_step_s=0.0)
    beside = replace(no_host, host_overlap=1.0)
    assert first_token_s(busy, beside) - first_token_s(busy, no_host) == pytest.approx(
        7e-3, abs=2e-3
    )


def test_the_front_end_adds_its_time() -> None:
    k = installed(catalog.build("gpu", "h100_sxm"))
    without = first_token_s(prompt(64.0), replace(k, front_end_s=0.0))
    assert first_token_s(prompt(64.0), k) - without == pytest.approx(k.front_end_s)


def test_a_prompt_beyond_the_step_takes_two() -> None:
    k = replace(installed(catalog.build("gpu", "h100_sxm")), mixed_step_s=0.05)
    one, two = (first_token_s(prompt(tokens), k) for tokens in (8000.0, 8400.0))
    assert two - one > 0.05


def test_the_file_of_the_runs_is_read(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    file = tmp_path / FILE
    file.parent.mkdir()
    header = ",".join(["prompt_tokens", *(f"{name}_ms" for name in NAMES)])
    file.write_text(f"{header}\n33-128," + ",".join(["28.8"] * len(NAMES)) + "\n")
    found = read(tmp_path)
    assert {(m.shortest, m.longest) for m in found} == {(33.0, 128.0)}
    assert found[0].seconds == pytest.approx(0.0288)
    assert "33–128" in first_token_table(first_tokens(found))


def test_the_runs_are_on_the_boards_that_their_other_readings_are_of() -> None:
    """Load steps, aggregates and times to first token are of the same servers."""
    dense, fast = RUNS["q8_a100_r2p5"], RUNS["q8_h100_r4"]
    assert dense.gpu_spec.power_cap_max_w == 500.0
    assert clock_limit(dense.gpu_spec) == 1.0
    assert clock_limit(fast.gpu_spec) == pytest.approx(1830.0 / 1980.0)
    k = installed(fast.gpu_spec)
    slow = first_token_s(prompt(8000.0), k)
    lower = replace(k, flops_efficiency=0.9 * k.flops_efficiency)
    assert first_token_s(prompt(8000.0), lower) > 1.04 * slow
