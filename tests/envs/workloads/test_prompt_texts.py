"""What prompts have in common: shared beginnings, conversations, ids of recorded parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs import catalog
from envs.errors import WorkloadError
from envs.workloads.base import RequestChunk
from envs.workloads.bursty import Bursty
from envs.workloads.mooncake import Mooncake
from envs.workloads.poisson import Poisson


def take(workload: Any, count: int, at_a_time: int) -> RequestChunk:
    stream = workload.stream(np.random.default_rng(5), 10.0)
    return RequestChunk.joined([stream.take(at_a_time) for _ in range(count // at_a_time)])


def test_the_shared_tokens_of_prompts_are_told_and_scaled() -> None:
    built = catalog.build("workload", {"base": "poisson_gsm8k", "prompt_scale": 2.0})
    assert built.prompt_texts.shared_tokens == 864
    assert catalog.build("workload", "poisson_hellaswag").prompt_texts.shared_tokens == 0


def test_conversations_are_the_same_however_they_are_taken() -> None:
    workload = Poisson(turns=4.0, sessions=20)
    for ours, theirs in zip(take(workload, 9000, 9000), take(workload, 9000, 75), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_prompt_begins_with_all_that_was_said_before() -> None:
    chunk = take(Bursty(turns=4.0, sessions=20, max_history_tokens=3000), 8000, 8000)
    assert chunk.texts is not None
    shared = Bursty().prompt_texts.shared_tokens
    turns: dict[int, list[int]] = {}
    for row, text in enumerate(chunk.texts[:, 0].tolist()):
        turns.setdefault(text, []).append(row)
    for rows in turns.values():
        said = 0
        for row in rows:
            added = chunk.prompt_tokens[row] - said
            assert added >= shared + 18  # the shortest question
            said = int(chunk.prompt_tokens[row] + chunk.output_tokens[row]) - shared
    lengths = [len(rows) for text, rows in turns.items() if text < 1500]
    assert np.mean(lengths) == pytest.approx(4.0, rel=0.15)
    workload = Bursty(turns=4.0, sessions=20, max_history_tokens=3000)
    assert workload.mean_prompt_tokens == pytest.approx(chunk.prompt_tokens.mean(), rel=0.05)


def test_without_conversations_the_requests_are_what_they_were() -> None:
    alone, single = (take(Poisson(sessions=count), 5000, 500) for count in (1, 100))
    assert alone.texts is None
    np.testing.assert_array_equal(alone.prompt_tokens, single.prompt_tokens)


def recording(tmp_path: Path, *ids: Any) -> Mooncake:
    path = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": 1000 * i, "input_length": 1100, "output_length": 9, "hash_ids": row}
        for i, row in enumerate(ids)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return Mooncake(path=str(path), repeat=True)


def test_recorded_ids_tell_which_prompts_begin_alike(tmp_path: Path) -> None:
    workload = recording(tmp_path, [90, 91, 92], [90, 91, 95], [90], [90, 91, 92, 93, 94])
    texts = workload.prompt_texts
    assert texts.part_tokens == 512
    assert texts.ids.tolist() == [0, 1, 2, 0, 1, 3, 0, 4, 5, 0, 1, 2]
    chunk = take(workload, 8, 8)
    assert chunk.texts is not None
    assert chunk.texts[:, 1].tolist() == [0, 3, 6, 9] * 2
    # The window comes again, but it is another time that people say what they say in it.
    assert chunk.texts[:, 2].tolist() == [0] * 4 + [6] * 4


@pytest.mark.parametrize("ids", [[1, -2, 3], [1, "2"], {"a": 1}, [True], [1.5]])
def test_ids_that_are_none_are_named_with_their_line(tmp_path: Path, ids: Any) -> None:
    with pytest.raises(WorkloadError, match=r"trace.jsonl:2: hash_ids must be a list"):
        recording(tmp_path, [1, 2, 3], ids).prompt_texts  # noqa: B018
