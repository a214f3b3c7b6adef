import itertools
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.catalog import build, load, locate, names
from envs.errors import WorkloadError
from envs.workloads.base import RequestChunk, RequestStream, Workload
from envs.workloads.lengths import TABLE_SIZE
from envs.workloads.synthetic import BLOCK, BlockStream, SyntheticWorkload

RATE_PER_S = 20.0
CLASSES = {name: locate(load("workload", name)["_target_"]) for name in names("workload")}
SYNTHETIC = [
    name
    for name, cls in CLASSES.items()
    if issubclass(cls, SyntheticWorkload) and not cls.reads_file
]


def start(workload: Workload, seed: int = 1) -> RequestStream:
    return workload.stream(np.random.default_rng(seed), RATE_PER_S)


def joined(chunks: list[RequestChunk]) -> RequestChunk:
    return RequestChunk.joined(chunks)


def same(one: RequestChunk, other: RequestChunk) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def workloads() -> dict[str, Workload]:
    return {name: build("workload", name) for name in SYNTHETIC}


@pytest.mark.parametrize("name", SYNTHETIC)
def test_stream_keeps_the_contract(name: str, workloads: dict[str, Workload]) -> None:
    workload = workloads[name]
    assert isinstance(workload, SyntheticWorkload)
    chunk = start(workload).take(3 * BLOCK + 17)
    for array, dtype in zip(chunk[:3], (np.float64, np.int64, np.int64), strict=True):
        assert array.shape == (3 * BLOCK + 17,)
        assert array.dtype == dtype
    assert (np.diff(chunk.arrival_time_s) >= 0).all()
    assert chunk.arrival_time_s[0] >= 0
    assert chunk.prompt_tokens.min() >= 1
    assert chunk.output_tokens.min() >= 1


@pytest.mark.parametrize("name", SYNTHETIC)
@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(0, 2 * BLOCK + 5), max_size=8), seed=st.integers(0, 2**32))
def test_chunks_of_any_size_give_the_same_requests(
    name: str, counts: list[int], seed: int, workloads: dict[str, Workload]
) -> None:
    stream = start(workloads[name], seed)
    parts = [stream.take(count) for count in counts]
    assert [len(part.arrival_time_s) for part in parts] == counts
    whole = start(workloads[name], seed).take(sum(counts))
    if parts:
        assert same(joined(parts), whole)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_seeds_decide(name: str, workloads: dict[str, Workload]) -> None:
    first, again, other = (start(workloads[name], seed).take(100) for seed in (5, 5, 6))
    assert same(first, again)
    assert not np.array_equal(first.prompt_tokens, other.prompt_tokens)
    assert not np.array_equal(first.output_tokens, other.output_tokens)
    if workloads[name].concurrency is None:
        assert not np.array_equal(first.arrival_time_s, other.arrival_time_s)


def test_a_second_episode_of_one_generator_differs(workloads: dict[str, Workload]) -> None:
    rng = np.random.default_rng(3)
    first, second = (workloads["poisson_gsm8k"].stream(rng, 1.0).take(50) for _ in range(2))
    assert not np.array_equal(first.arrival_time_s, second.arrival_time_s)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_mean_lengths_are_those_stated(name: str, workloads: dict[str, Workload]) -> None:
    workload = workloads[name]
    chunk = start(workload).take(100_000)
    for tokens, stated in (
        (chunk.prompt_tokens, workload.mean_prompt_tokens),
        (chunk.output_tokens, workload.mean_output_tokens),
    ):
        standard_error = tokens.std() / np.sqrt(len(tokens))
        assert abs(tokens.mean() - stated) < 4 * standard_error


def test_prompt_output_and_gaps_are_independent(workloads: dict[str, Workload]) -> None:
    chunk = start(workloads["poisson_gsm8k"]).take(100_001)
    gaps = np.diff(chunk.arrival_time_s)
    columns = np.array([gaps, chunk.prompt_tokens[1:], chunk.output_tokens[1:]])
    correlation = np.corrcoef(columns)
    for i, j in itertools.combinations(range(3), 2):
        assert abs(correlation[i, j]) < 4 / np.sqrt(100_000)
    neighbours = np.corrcoef(chunk.prompt_tokens[:-1], chunk.prompt_tokens[1:])[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(100_000)


def test_the_rate_only_stretches_time(workloads: dict[str, Workload]) -> None:
    rng = np.random.default_rng
    slow = workloads["poisson_gsm8k"].stream(rng(2), 0.5).take(1000)
    fast = workloads["poisson_gsm8k"].stream(rng(2), 50.0).take(1000)
    np.testing.assert_allclose(slow.arrival_time_s, 100.0 * fast.arrival_time_s, rtol=1e-12)
    assert np.array_equal(slow.prompt_tokens, fast.prompt_tokens)


@pytest.mark.parametrize("name", ["poisson_gsm8k", "bursty", "diurnal"])
def test_memory_stays_flat_over_a_day(name: str, workloads: dict[str, Workload]) -> None:
    stream = start(workloads[name])
    stream.take(10 * BLOCK)
    tracemalloc.start()
    try:
        last_s = 0.0
        while last_s < 86_400.0:
            last_s = stream.take(1000).arrival_time_s[-1]
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 400_000
    assert peak < 1_000_000


@pytest.mark.long
def test_a_poisson_request_costs_little_more_than_its_random_numbers() -> None:
    rng = np.random.default_rng(0)
    stream = start(build("workload", "poisson_gsm8k"))
    # Beside each other, so that a busy machine slows both: 24 ns and 7 ns when it is idle.
    pairs = [
        (_seconds(lambda: stream.take(BLOCK)), _seconds(lambda: rng.standard_exponential(BLOCK)))
        for _ in range(30)
    ]
    stream_s, draws_s = (min(times) for times in zip(*pairs, strict=True))
    assert stream_s < 6.0 * draws_s


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    for _ in range(50):
        call()
    return time.perf_counter() - begin


class Given:
    """An arrival process of a user's own that returns what it is given, block by block."""

    def __init__(self, *blocks: Any) -> None:
        self._blocks = iter(blocks)

    def next_block(self) -> Any:
        return next(self._blocks)


def stream_of(*blocks: Any) -> BlockStream:
    lengths = np.ones(TABLE_SIZE, np.int64)
    return BlockStream(Given(*blocks), np.random.default_rng(0), lengths, lengths)


ASCENDING = np.arange(float(BLOCK))


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (ASCENDING + BLOCK / 2 - 2.0, "ascending times, each block after the one before"),
        (ASCENDING[::-1] + BLOCK, "ascending times"),
        (np.where(ASCENDING == 7.0, np.nan, ASCENDING + BLOCK), "or are no numbers"),
        (np.where(ASCENDING == BLOCK - 1.0, np.inf, ASCENDING + BLOCK), "or are no numbers"),
        (ASCENDING[:-1] + BLOCK, rf"{BLOCK} times, got the shape \({BLOCK - 1},\)"),
        (np.zeros((BLOCK, 2)), rf"the shape \({BLOCK}, 2\)"),
        (None, r"the shape \(\)"),
    ],
)
def test_arrivals_that_break_their_promise_are_refused(second: Any, reason: str) -> None:
    """Times that stand still are allowed; the first block is fine in each of these."""
    stream = stream_of(np.floor(ASCENDING / 2.0), second)
    stream.take(BLOCK)
    with pytest.raises(WorkloadError, match=rf"workload: Given\.next_block\(\) .*{reason}"):
        stream.take(1)


def test_no_request_arrives_before_an_episode_begins() -> None:
    with pytest.raises(WorkloadError, match="ascending"):
        stream_of(ASCENDING - 1.0).take(1)
