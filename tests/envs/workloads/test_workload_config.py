import math
from typing import Any

import numpy as np
import pytest

from envs.catalog import build, names
from envs.errors import ConfigurationError
from envs.workloads.base import Workload
from envs.workloads.lengths import Lengths
from envs.workloads.poisson import Poisson


@pytest.mark.parametrize("name", names("workload"))
def test_every_choice_is_a_workload(name: str) -> None:
    assert isinstance(build("workload", name), Workload)


def test_the_names_in_the_documentation_exist() -> None:
    assert set(names("workload")) >= {
        "poisson_gsm8k", "poisson_hellaswag", "bursty", "diurnal", "closed_loop", "azure_conv",
        "mooncake", "long_context",
    }  # fmt: skip


def test_rate_counts_before_load_and_load_is_a_fraction_of_capacity() -> None:
    default = build("workload", "poisson_gsm8k")
    assert default.load == 0.7
    assert default.needs_capacity
    assert default.rate_per_s(10.0) == pytest.approx(7.0)
    fixed = build("workload", {"base": "poisson_gsm8k", "rate": 3.0})
    assert not fixed.needs_capacity
    assert fixed.rate_per_s(10.0) == 3.0


def test_only_arrivals_differ_between_the_synthetic_defaults() -> None:
    means = {
        build("workload", name).mean_prompt_tokens
        for name in ("poisson_gsm8k", "bursty", "diurnal", "closed_loop")
    }
    assert len(means) == 1


def test_lengths_can_be_swapped_by_name_and_by_value() -> None:
    by_name = build("workload", {"base": "bursty", "lengths": "hellaswag"})
    assert by_name.mean_prompt_tokens == pytest.approx(191.3, abs=0.5)
    by_value = build("workload", {"base": "bursty", "lengths": {"output": {"mean_tokens": 240.0}}})
    assert by_value.mean_prompt_tokens == build("workload", "bursty").mean_prompt_tokens
    assert by_value.mean_output_tokens > 200.0
    by_object = Poisson(lengths=Lengths(prompt=100, output=10))
    assert (by_object.mean_prompt_tokens, by_object.mean_output_tokens) == (100.0, 10.0)


def test_scales_shift_lengths_and_leave_arrivals_alone() -> None:
    plain, shifted = (
        build("workload", {"base": "poisson_gsm8k", "prompt_scale": p, "output_scale": o})
        for p, o in ((1.0, 1.0), (2.0, 0.5))
    )
    assert shifted.mean_prompt_tokens == pytest.approx(2 * plain.mean_prompt_tokens, rel=1e-3)
    assert shifted.mean_output_tokens == pytest.approx(plain.mean_output_tokens / 2, rel=1e-2)
    one, two = (w.stream(np.random.default_rng(0), 1.0).take(500) for w in (plain, shifted))
    assert np.array_equal(one.arrival_time_s, two.arrival_time_s)
    assert np.abs(2 * one.prompt_tokens - two.prompt_tokens).max() <= 1  # rounded after scaling


@pytest.mark.parametrize(
    ("base", "values", "key"),
    [
        ("poisson_gsm8k", {"rate": -1.0}, r"workload\.rate"),
        ("poisson_gsm8k", {"rate": 0.0}, r"workload\.rate"),
        ("poisson_gsm8k", {"load": math.inf}, r"workload\.load"),
        ("poisson_gsm8k", {"load": math.nan}, r"workload\.load"),
        ("poisson_gsm8k", {"prompt_scale": 0.0}, r"workload\.prompt_scale"),
        ("poisson_gsm8k", {"output_scale": -2.0}, r"workload\.output_scale"),
        ("poisson_gsm8k", {"path": "trace.csv"}, r"workload\.path"),
        ("poisson_gsm8k", {"laod": 0.5}, "laod"),
        ("poisson_gsm8k", {"rate": "fast"}, "rate"),
        ("poisson_gsm8k", {"lengths": "novels"}, "novels"),
        ("poisson_gsm8k", {"lengths": {"prompt": {"mean_tokens": -4.0}}}, "mean_tokens"),
        ("poisson_gsm8k", {"lengths": {"prompt": {"mean_token": 4.0}}}, "mean_token"),
        ("bursty", {"burst_ratio": 0.5}, r"workload\.burst_ratio"),
        ("bursty", {"burst_fraction": 1.0}, r"workload\.burst_fraction"),
        ("bursty", {"burst_duration_s": 0.0}, r"workload\.burst_duration_s"),
        ("diurnal", {"peak_to_trough": 0.5}, r"workload\.peak_to_trough"),
        ("diurnal", {"period_s": -1.0}, r"workload\.period_s"),
        ("diurnal", {"start": 1.0}, r"workload\.start"),
        ("closed_loop", {"concurrency": 0}, r"workload\.concurrency"),
        ("closed_loop", {"rate": 1.0}, r"workload\.rate"),
        ("closed_loop", {"load": 0.7}, r"workload\.load"),
        ("azure_conv", {"start_s": -1.0}, r"workload\.start_s"),
        ("azure_conv", {"start_s": 5.0, "end_s": 5.0}, r"workload\.end_s"),
    ],
)
def test_bad_values_are_refused_by_key(base: str, values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        build("workload", {"base": base, **values})


def test_a_synthetic_workload_without_rate_and_load_has_no_rate() -> None:
    workload = build("workload", {"base": "poisson_gsm8k", "load": None})
    with pytest.raises(ConfigurationError, match=r"workload\.load"):
        workload.rate_per_s(10.0)
