from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.catalog import build
from envs.errors import WorkloadError
from envs.workloads.azure_conv import AzureConv
from envs.workloads.base import RequestChunk
from envs.workloads.mooncake import Mooncake
from envs.workloads.recording import spread
from envs.workloads.trace import Trace

ROWS = [(0.0, 100, 10), (1.5, 200, 20), (1.5, 300, 30), (4.0, 400, 40), (8.0, 500, 50)]
TraceOf = Callable[..., Trace]


def replay(trace: Trace, count: int = 100, seed: int = 0) -> RequestChunk:
    return trace.stream(np.random.default_rng(seed), trace.rate_per_s(2.0)).take(count)


def test_requests_come_as_recorded(trace_of: TraceOf) -> None:
    trace = trace_of(ROWS)
    assert trace.load is None
    assert not trace.needs_capacity
    times, prompts, outputs, _ = replay(trace)
    assert times == pytest.approx([0.0, 1.5, 1.5, 4.0, 8.0], abs=1e-6)
    assert prompts.tolist() == [100, 200, 300, 400, 500]
    assert outputs.tolist() == [10, 20, 30, 40, 50]
    assert prompts.dtype == outputs.dtype == np.int64


def test_the_trace_ends_one_mean_gap_after_its_last_request(trace_of: TraceOf) -> None:
    assert trace_of(ROWS).own_rate_per_s == pytest.approx(5 / (8.0 + 2.0))


def test_a_rate_or_a_load_stretches_time(trace_of: TraceOf) -> None:
    own = replay(trace_of(ROWS)).arrival_time_s
    by_rate = trace_of(ROWS, rate=5.0)
    assert replay(by_rate).arrival_time_s == pytest.approx(own / 10.0)
    by_load = trace_of(ROWS, load=0.5)  # of a capacity of 2 requests/s
    assert by_load.needs_capacity
    assert replay(by_load).arrival_time_s == pytest.approx(own / 2.0)


def test_lengths_are_scaled(trace_of: TraceOf) -> None:
    trace = trace_of(ROWS, prompt_scale=1.5, output_scale=0.01)
    chunk = replay(trace)
    assert chunk.prompt_tokens.tolist() == [150, 300, 450, 600, 750]
    assert chunk.output_tokens.tolist() == [1, 1, 1, 1, 1]
    assert trace.mean_prompt_tokens == 450.0
    assert trace.mean_output_tokens == 1.0


def test_a_window_is_half_open_and_starts_at_zero(trace_of: TraceOf) -> None:
    trace = trace_of(ROWS, start_s=1.0, end_s=8.0)
    chunk = replay(trace)
    assert chunk.arrival_time_s == pytest.approx([0.5, 0.5, 3.0], abs=1e-6)
    assert chunk.prompt_tokens.tolist() == [200, 300, 400]
    assert trace.own_rate_per_s == pytest.approx(3 / 7.0)
    assert trace.mean_prompt_tokens == 300.0


def test_repeating_goes_round(trace_of: TraceOf) -> None:
    chunk = replay(trace_of(ROWS, repeat=True), 12)
    assert chunk.arrival_time_s[5:10] == pytest.approx(chunk.arrival_time_s[:5] + 10.0)
    assert chunk.arrival_time_s[10:] == pytest.approx(chunk.arrival_time_s[:2] + 20.0)
    assert chunk.prompt_tokens[5:10].tolist() == [100, 200, 300, 400, 500]


def test_a_random_start_goes_round_once_and_depends_on_the_seed(trace_of: TraceOf) -> None:
    trace = trace_of(ROWS, random_start=True)
    chunks = [replay(trace, seed=seed) for seed in range(20)]
    for chunk in chunks:
        assert sorted(chunk.prompt_tokens) == [100, 200, 300, 400, 500]
        assert (np.diff(chunk.arrival_time_s) >= 0).all()
        assert chunk.arrival_time_s[0] >= 0.0
        assert chunk.arrival_time_s[-1] <= 10.0
    assert len({chunk.arrival_time_s[0] for chunk in chunks}) == 20
    assert len({int(chunk.prompt_tokens[0]) for chunk in chunks}) > 1
    again = replay(trace, seed=7)
    assert np.array_equal(again.arrival_time_s, chunks[7].arrival_time_s)


def test_a_trace_that_has_ended_gives_no_more(trace_of: TraceOf) -> None:
    stream = trace_of(ROWS).stream(np.random.default_rng(0), 1.0)
    assert len(stream.take(4).prompt_tokens) == 4
    assert len(stream.take(4).prompt_tokens) == 1
    assert len(stream.take(4).prompt_tokens) == 0


@pytest.mark.parametrize("options", [{}, {"repeat": True}, {"repeat": True, "random_start": True}])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(counts=st.lists(st.integers(0, 30), max_size=6), seed=st.integers(0, 1000))
def test_chunks_of_any_size_replay_the_same(
    options: dict[str, bool], counts: list[int], seed: int, trace_of: TraceOf
) -> None:
    trace = trace_of(ROWS, **options)
    stream = trace.stream(np.random.default_rng(seed), 3.0)
    parts = [stream.take(count) for count in counts]
    whole = trace.stream(np.random.default_rng(seed), 3.0).take(sum(counts))
    if parts:
        for ours, theirs in zip(RequestChunk.joined(parts), whole, strict=True):
            assert np.array_equal(ours, theirs)


def test_an_endless_trace_goes_on(trace_of: TraceOf) -> None:
    trace = trace_of(ROWS, prompt_scale=2.0)
    chunk = trace.endless().stream(np.random.default_rng(0), 1.0).take(1000)
    assert len(chunk.prompt_tokens) == 1000
    assert set(chunk.prompt_tokens) == {200, 400, 600, 800, 1000}
    assert not trace.repeat


def test_ties_are_spread_until_the_next_instant() -> None:
    times = np.array([0.0, 0.0, 0.0, 3.0, 6.0, 6.0])
    assert spread(times) == pytest.approx([0.0, 1.0, 2.0, 3.0, 6.0, 7.5])


def test_spreading_is_an_option(trace_of: TraceOf) -> None:
    times = replay(trace_of(ROWS, spread_ties=True)).arrival_time_s
    assert times == pytest.approx([0.0, 1.5, 2.75, 4.0, 8.0], abs=1e-6)


def test_a_file_is_read_once_and_again_when_it_changes(
    write_csv: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(ROWS)
    reads = []
    rows = AzureConv.rows

    def counted(file: Path):  # type: ignore[no-untyped-def]
        reads.append(file)
        return rows(file)

    monkeypatch.setattr(AzureConv, "rows", counted)
    first, second = (AzureConv.read(path) for _ in range(2))
    assert first is second
    assert len(reads) == 1
    write_csv([*ROWS, (9.0, 600, 60)])
    assert len(AzureConv.read(path).time_s) == 6
    assert len(reads) == 2
    with pytest.raises(ValueError, match="read-only"):
        first.prompt_tokens[0] = 1


def test_time_zones_and_whole_seconds_as_in_the_2024_traces(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(
        "GeneratedTokens,TIMESTAMP,ContextTokens\n"
        "5,2024-05-12 00:00:00+00:00,7\n6,2024-05-12 00:00:01.25+00:00,8\n"
    )
    recording = AzureConv.read(path)
    assert recording.time_s == pytest.approx([0.0, 1.25], abs=1e-6)
    assert recording.prompt_tokens.tolist() == [7, 8]


def test_the_azure_trace_itself(data_dir: Path) -> None:
    path = data_dir / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.csv"
    trace = build("workload", {"base": "azure_conv", "path": str(path)})
    chunk = replay(trace, 30_000)
    assert len(chunk.prompt_tokens) == 19_366
    assert chunk.arrival_time_s[-1] == pytest.approx(3501.72, abs=0.01)
    assert np.median(chunk.prompt_tokens) == 1020
    assert np.median(chunk.output_tokens) == 129
    assert trace.own_rate_per_s == pytest.approx(5.53, abs=0.01)


def test_the_mooncake_trace_itself(data_dir: Path) -> None:
    path = data_dir / "mooncake" / "conversation_trace_head.jsonl"
    trace = Mooncake(path=str(path), spread_ties=True)
    chunk = replay(trace, 2000)
    assert len(chunk.prompt_tokens) == 1000
    assert chunk.prompt_tokens[:3].tolist() == [6758, 7322, 7236]
    assert (np.diff(chunk.arrival_time_s) > 0).all()


def test_a_trace_is_found_in_the_data_folder(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    monkeypatch.setenv("PALS_DATA", str(data_dir))
    assert build("workload", "azure_conv").own_rate_per_s == pytest.approx(5.53, abs=0.01)


def test_a_day_of_replay_keeps_no_memory(write_csv: Callable[..., Path]) -> None:
    import tracemalloc

    path = write_csv([(index * 0.1, 100 + index, 10) for index in range(1000)])
    stream = AzureConv(path=str(path), repeat=True).stream(np.random.default_rng(0), 10.0)
    stream.take(1000)
    tracemalloc.start()
    try:
        last_s = 0.0
        while last_s < 86_400.0:
            last_s = stream.take(1000).arrival_time_s[-1]
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50_000
    assert peak < 500_000


def test_a_window_without_requests_is_an_error(trace_of: TraceOf) -> None:
    with pytest.raises(WorkloadError, match=r"start_s=20\.0"):
        replay(trace_of(ROWS, start_s=20.0))


def test_a_window_without_duration_is_an_error(trace_of: TraceOf) -> None:
    with pytest.raises(WorkloadError, match=r"set workload\.end_s"):
        replay(trace_of(ROWS[:1]))
    assert len(replay(trace_of(ROWS[:1], end_s=5.0)).prompt_tokens) == 1
