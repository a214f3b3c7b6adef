"""Prefix caching: what is found again, what is computed, and which blocks make room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.server_specs import Given, Request, make_server, make_server_spec

from envs.simulator.savable import SavableFleet
from envs.simulator.server import SimulatedServer
from envs.telemetry import COLUMN, Telemetry
from envs.workloads.poisson import Poisson


def served(
    requests: list[Request], texts: list[int] | None = None, shared_tokens: int = 0, **server: Any
) -> list[Telemetry]:
    """Lets a server with prefix caching answer requests, in intervals of a second."""
    workload = Given(requests, texts=texts, shared_tokens=shared_tokens)
    made = make_server(workload, prefix_caching=True, exact_steps=True, **server)
    made.reset(0)
    return [made.advance(1.0) for _ in range(10)]


def sums(rows: list[Telemetry]) -> tuple[float, float, float]:
    """Returns tokens looked up, found, and computed of prompts."""
    names = ("prefix_cache_queries", "prefix_cache_hits", "prompt_tokens")
    found = [sum(getattr(row, name) for row in rows) for name in names]
    return found[0], found[1], found[2]


def test_a_shared_prompt_is_computed_once() -> None:
    """Of 70 shared tokens four blocks of 16 are full; the rest belongs to each request."""
    rows = served([(0.1, 100, 5), (1.1, 100, 5), (2.1, 90, 5)], shared_tokens=70)
    assert sums(rows) == (290, 128, 290 - 128)
    assert rows[1].ttft_p50_s < rows[0].ttft_p50_s


def test_requests_of_one_step_share_what_the_first_of_them_computes() -> None:
    rows = served([(0.0, 100, 5), (0.0, 100, 5)], shared_tokens=70)
    assert sums(rows)[1] == 64


def test_the_last_token_of_a_prompt_is_computed_in_any_case() -> None:
    """Four full blocks are known; a prompt of just these finds three, and computes a block."""
    rows = served([(0.0, 64, 5), (1.0, 64, 5), (2.0, 65, 5)], texts=[7, 7, 7])
    assert sums(rows) == (193, 48 + 64, 193 - 48 - 64)


def test_the_next_turn_finds_prompt_and_answer_of_the_one_before() -> None:
    """70 tokens and 30 of the answer, the last of which was never computed: 99, six blocks."""
    rows = served([(0.0, 70, 30), (2.0, 150, 5)], texts=[3, 3])
    assert sums(rows)[1] == 96


def test_blocks_that_are_found_are_held_once() -> None:
    rows = served([(0.0, 160, 600), (0.5, 160, 600)], texts=[1, 1], kv_blocks=200)
    assert rows[0].running == 2
    # Nine shared blocks, and each request's own from the tenth on: not twice the whole.
    tokens = 160 + rows[0].output_tokens / 2
    assert rows[0].kv_cache_usage * 200 < 2 * tokens / 16 + 2 - 8


def test_the_text_left_longest_ago_makes_room_and_its_end_first() -> None:
    """Twelve blocks: three prompts of four; then the first again, whose end is gone."""
    requests = [(0.1, 65, 1), (1.1, 65, 1), (2.1, 65, 1), (3.1, 65, 1)]
    rows = served(requests, texts=[1, 2, 3, 1], kv_blocks=12, max_model_len=80)
    # The third takes five blocks where four are unknown: it costs the end of the first.
    assert rows[3].prefix_cache_hits == 48


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    requests = [(0.0, 40, 40), (0.0, 40, 40)]
    plain = make_server(Given(requests), kv_blocks=6, exact_steps=True)
    plain.reset(0)
    expected = plain.advance(10.0)
    rows = served(requests, kv_blocks=6)
    assert sum(row.preemptions for row in rows) == expected.preemptions == 1
    assert sums(rows) == (80, 0, 80)  # what a preempted request looks up does not count
    assert sum(row.energy_gpu_j for row in rows) > 0


def test_it_is_off_unless_it_is_asked_for_or_a_recording_says_what_prompts_share(
    tmp_path: Path,
) -> None:
    rows = [
        {"timestamp": 1000 * i, "input_length": 1500, "output_length": 20, "hash_ids": [1, 2, 3]}
        for i in range(20)
    ]
    plain = [{k: v for k, v in row.items() if k != "hash_ids"} for row in rows]
    specs = {}
    for name, content in (("with", rows), ("without", plain)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in content))
        workload = {"base": "mooncake", "path": str(path)}
        specs[name] = make_server_spec(workload, model="llama31_8b")
    assert not make_server_spec({"base": "poisson_gsm8k"}).caches_prefixes
    assert (specs["with"].caches_prefixes, specs["without"].caches_prefixes) == (True, False)
    server = SimulatedServer(specs["with"])
    server.reset(0)
    told = [server.advance(1.0) for _ in range(30)]
    assert sums(told) == (20 * 1500, 19 * 1488, 20 * 1500 - 19 * 1488)


def test_states_are_saved_and_copied_with_what_is_known() -> None:
    workload = Poisson(rate=20.0, turns=4.0, sessions=30, max_history_tokens=400)
    spec = make_server_spec(workload, prefix_caching=True, kv_blocks=400)
    fleet = SavableFleet([spec])
    fleet.reset(0, 3)
    fleet.advance(20.0)
    fork = fleet.fork(0, 2)
    for _ in range(20):
        expected = fleet.advance(0.5)[0].copy()
        assert expected[COLUMN.prefix_cache_queries] >= expected[COLUMN.prefix_cache_hits]
        copies = fork.advance(0.5)
        np.testing.assert_array_equal(copies[0], expected)
        np.testing.assert_array_equal(copies[1], expected)


@pytest.mark.parametrize("replicas", [1, 2])
def test_caching_saves_energy_where_prompts_begin_alike(replicas: int) -> None:
    def energy_j(caching: bool) -> float:
        server = make_server(
            Poisson(rate=5.0), model="llama31_8b", prefix_caching=caching, data_parallel=replicas
        )
        server.reset(0)
        return float(server.advance(60.0).energy_gpu_j)

    assert energy_j(True) < 0.98 * energy_j(False)
