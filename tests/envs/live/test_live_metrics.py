"""Readings of /metrics: two generations of names, restarts, missing families, garbage."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.live.errors import MetricsError
from envs.live.histogram import Histogram
from envs.live.metrics import Snapshot, parse

NEW = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 4.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.1
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0",model_name="m"} 1000.0
vllm:generation_tokens_total{engine="1",model_name="m"} 500.0
vllm:generation_tokens_created{engine="0",model_name="m"} 1.79e+09
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 9000.0
# TYPE vllm:request_success counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 7.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 3.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 4.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0",model_name="m"} 8.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 10.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 10.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 6.0
# TYPE vllm:request_time_per_output_token_seconds histogram
vllm:request_time_per_output_token_seconds_bucket{engine="0",le="0.05",model_name="m"} 10.0
vllm:request_time_per_output_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 10.0
vllm:request_time_per_output_token_seconds_sum{engine="0",model_name="m"} 0.2
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",num_gpu_blocks="1000",engine="0"} 1.0
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.79e+09
"""

OLD = """\
vllm:num_requests_running{model_name="m"} 1
vllm:num_requests_waiting{model_name="m"} 2
vllm:gpu_cache_usage_perc{model_name="m"} 0.25
vllm:generation_tokens_total{model_name="m"} 50
vllm:time_per_output_token_seconds_bucket{le="0.05",model_name="m"} 4
vllm:time_per_output_token_seconds_bucket{le="+Inf",model_name="m"} 4
vllm:time_per_output_token_seconds_sum{model_name="m"} 0.1
"""


def test_reads_the_present_names_and_adds_engines_up() -> None:
    snapshot = parse(NEW)
    assert snapshot.gauges["running"] == 5
    assert snapshot.gauges["waiting"] == 4
    assert snapshot.gauges["kv_cache_usage"] == pytest.approx(0.3)
    assert snapshot.counters["output_tokens"] == 1500
    assert snapshot.counters["prompt_tokens"] == 9000
    assert snapshot.counters["finished"] == 10
    assert snapshot.histograms["ttft"].samples == 10
    assert snapshot.histograms["ttft"].mean == pytest.approx(0.6)
    assert snapshot.histograms["tpot"].mean == pytest.approx(0.02)
    assert snapshot.kv_cache_tokens == 16_000
    assert snapshot.start_time_s == pytest.approx(1.79e9)


def test_reads_the_names_of_older_servers() -> None:
    snapshot = parse(OLD)
    assert snapshot.gauges["kv_cache_usage"] == 0.25
    assert snapshot.histograms["tpot"].samples == 4
    assert "prompt_tokens" not in snapshot.counters
    assert snapshot.histograms["ttft"].samples == 0
    assert snapshot.start_time_s is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>502 Bad Gateway</html>",
        "vllm:num_requests_running{ 3",
        'vllm:num_requests_running{model_name="m"} three',
        "vllm:num_requests_running NaN\nvllm:num_requests_waiting 0\n",
        NEW.replace("vllm:generation_tokens_total", "vllm:renamed_total"),
    ],
)
def test_garbage_and_missing_families_are_errors(text: str) -> None:
    with pytest.raises(MetricsError):
        parse(text)


def test_the_missing_family_is_named() -> None:
    with pytest.raises(MetricsError, match="vllm:generation_tokens_total"):
        parse(NEW.replace("vllm:generation_tokens_total", "vllm:renamed_total"))


def test_difference_of_two_definitions() -> None:
    first, second = parse(NEW), parse(NEW.replace(" 1000.0", " 1100.0").replace(" 8.0", " 9.0"))
    added = second.since(first)
    assert added.counters["output_tokens"] == 100
    assert added.histograms["ttft"].counts == (0, 1, 0)
    assert added.gauges == second.gauges


def test_after_a_restart_counting_begins_again() -> None:
    by_counter = parse(OLD.replace(" 50", " 20"))
    assert by_counter.restarted_since(parse(OLD))
    assert by_counter.since(parse(OLD)).counters["output_tokens"] == 20
    # The start time tells even when the new counters have overtaken the old ones.
    by_time = parse(NEW.replace(" 1.79e+09\n", " 1.80e+09\n").replace(" 1000.0", " 2000.0"))
    assert by_time.restarted_since(parse(NEW))
    assert by_time.since(parse(NEW)).counters["output_tokens"] == 2500


def test_percentiles_lie_within_their_bucket() -> None:
    histogram = parse(NEW).histograms["ttft"]
    assert histogram.percentile(20) == pytest.approx(0.05)
    assert histogram.percentile(60) == pytest.approx(0.1 + 0.9 * 0.5)
    assert histogram.percentile(99) == 1.0  # the last bucket has no upper end
    assert Histogram().percentile(50) == 0.0


def test_never_too_many_are_said_to_exceed_a_limit() -> None:
    """Samples of 26 ms do not miss an SLO of 30 ms because their bucket ends at 50 ms."""
    samples = Histogram((0.01, 0.025, 0.05, 0.1, math.inf), (0.0, 2.0, 10.0, 10.0, 10.0), 0.26)
    assert samples.bound_for(0.03) == 0.05
    assert samples.above(0.03) == 0
    assert samples.above(0.025) == 8
    assert samples.above(0.02) == 8
    assert Histogram().above(1.0) == 0.0


def test_beyond_the_last_bound_the_last_bound_counts() -> None:
    """Of samples of 50 s a histogram that ends at 10 s knows that they took longer than 10 s."""
    samples = Histogram((1.0, 10.0, math.inf), (0.0, 3.0, 8.0), 260.0)
    assert samples.bound_for(30.0) == 10.0
    assert samples.above(30.0) == 5


TWO = """vllm:num_requests_running{{engine="0"}} 1
vllm:num_requests_running{{engine="1"}} 2
vllm:num_requests_waiting{{engine="0"}} 0
vllm:generation_tokens_total{{engine="0"}} {first}
vllm:generation_tokens_total{{engine="1"}} {second}
vllm:request_success_total{{engine="0",finished_reason="stop"}} 1
vllm:request_success_total{{engine="0",finished_reason="length"}} 2
vllm:time_to_first_token_seconds_bucket{{engine="0",le="1.0"}} {first}
vllm:time_to_first_token_seconds_bucket{{engine="0",le="+Inf"}} {first}
vllm:time_to_first_token_seconds_bucket{{engine="1",le="1.0"}} {second}
vllm:time_to_first_token_seconds_bucket{{engine="1",le="+Inf"}} {second}
process_start_time_seconds 5
"""


def test_an_engine_that_starts_again_among_others_takes_no_tokens_away() -> None:
    before = parse(TWO.format(first=1000, second=500))
    after = parse(TWO.format(first=11, second=510))
    assert before.counters["output_tokens"] == 1500
    added = after.since(before)
    assert added.counters["output_tokens"] == 21
    assert added.counters["finished"] == 3  # all that engine has finished since
    assert added.histograms["ttft"].samples == 21
    assert after.restarted_since(before)
    later = parse(TWO.format(first=1100, second=510))
    assert later.since(before).counters["output_tokens"] == 110
    assert not later.restarted_since(before)


@given(
    st.lists(st.floats(0.001, 50.0), min_size=1, max_size=60),
    st.floats(0.1, 100.0),
)
def test_percentiles_are_no_further_off_than_a_bucket(samples: list[float], q: float) -> None:
    bounds = (0.01, 0.1, 0.5, 1.0, 5.0, 50.0, math.inf)
    counts = tuple(float(sum(sample <= bound for sample in samples)) for bound in bounds)
    histogram = Histogram(bounds, counts, sum(samples))
    exact = sorted(samples)[max(1, math.ceil(q / 100 * len(samples))) - 1]
    upper = next(bound for bound in bounds if bound >= exact)
    lower = max((bound for bound in bounds if bound < exact), default=0.0)
    assert lower <= histogram.percentile(q) <= upper


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=20))
def test_no_token_counts_twice_whatever_the_counter_does(values: list[int]) -> None:
    snapshots = [Snapshot({}, {"output_tokens": float(value)}) for value in values]
    total = sum(
        later.since(earlier).counters["output_tokens"]
        for earlier, later in itertools.pairwise(snapshots)
    )
    expected = sum(b - a if b >= a else b for a, b in itertools.pairwise(values))
    assert total == expected
