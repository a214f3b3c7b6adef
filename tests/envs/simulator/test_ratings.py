"""What a server is rated by, its capacity above all, is what it keeps up for hours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.errors import ConfigurationError
from envs.factory import build_server_spec
from envs.scenario import Scenario
from envs.simulator.fleet import Fleet
from envs.simulator.server_spec import ServerSpec
from envs.telemetry import COLUMN

LONG: dict[str, dict[str, Any]] = {
    "long contexts": {
        "workload": "long_context",
        "server": {"base": "simulated", "tensor_parallel": 2},
    },
    "long outputs": {
        "model": "llama2_7b",
        "workload": "long_output",
        "server": {"base": "simulated", "tensor_parallel": 1},
    },
}


def spec_of(**parts: Any) -> ServerSpec:
    return build_server_spec(Scenario(**parts))


def in_a_loop(spec: ServerSpec, seed: int, settle_s: float, seconds: float) -> Any:
    """Returns what a server with more work than fits its batch does in so many seconds."""
    fleet = Fleet([spec])
    stream = spec.workload.endless().stream(np.random.default_rng(seed), 1.0)
    fleet.begin(0, stream, 2 * spec.server.max_num_seqs)
    fleet.advance(settle_s)
    return fleet.advance(seconds)[0].copy()


@pytest.mark.parametrize("name", LONG)
def test_requests_and_tokens_of_a_rating_agree(name: str) -> None:
    """Requests that last a minute end in lumps, so that few of them end in any two minutes."""
    spec = spec_of(**LONG[name])
    asked_tok_s = spec.saturated.requests_per_s * spec.workload.mean_output_tokens
    assert asked_tok_s == pytest.approx(spec.saturated.output_tok_s, rel=0.02)


@pytest.mark.parametrize("name", LONG)
def test_a_rating_is_what_is_kept_up_for_an_hour(name: str) -> None:
    spec, hour_s = spec_of(**LONG[name]), 3600.0
    done = in_a_loop(spec, 1, 1200.0, hour_s)
    rating = spec.saturated
    assert done[COLUMN.finished] / hour_s == pytest.approx(rating.requests_per_s, rel=0.04)
    assert done[COLUMN.output_tokens] / hour_s == pytest.approx(rating.output_tok_s, rel=0.03)
    assert done[COLUMN.energy_gpu_j] / hour_s == pytest.approx(rating.power_w, rel=0.01)


def test_a_load_is_the_fraction_of_time_that_the_server_needs() -> None:
    parts = {**LONG["long contexts"], "workload": {"base": "long_context", "load": 0.7}}
    spec = spec_of(**parts)
    assert spec.offered_tok_s == pytest.approx(0.7 * spec.capacity_tok_s, rel=0.02)


def test_short_requests_are_measured_for_two_minutes_after_half_a_minute() -> None:
    spec = spec_of()
    done = in_a_loop(spec, 0, 30.0, 120.0)
    columns = COLUMN.output_tokens, COLUMN.finished, COLUMN.energy_gpu_j
    assert spec.saturated == pytest.approx([done[column] / 120.0 for column in columns])


def test_a_workload_that_does_not_fit_is_refused_though_its_shortest_requests_do() -> None:
    """Of prompts of 8000 tokens on average, one in two hours fits a context of 4096."""
    with pytest.raises(ConfigurationError, match="too long for this model's context"):
        spec_of(model="llama2_7b", workload="long_context").rate(64)
