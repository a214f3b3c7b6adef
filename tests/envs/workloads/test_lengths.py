import math

import numpy as np
import pytest

from envs.catalog import build, names
from envs.errors import ConfigurationError
from envs.simulator.memory import kv_cache_tokens
from envs.simulator.parallelism import Parallelism
from envs.workloads.lengths import TABLE_SIZE, Fixed, Lengths, LogNormal, Quantiles


def test_log_normal_has_the_asked_mean_and_standard_deviation() -> None:
    table = LogNormal(mean_tokens=1000.0, std_tokens=400.0).table()
    assert len(table) == TABLE_SIZE
    assert table.mean() == pytest.approx(1000.0, rel=2e-3)
    # The outermost 1/8192 of the tail lies beyond the table.
    assert table.std() == pytest.approx(400.0, rel=2e-2)


def test_log_normal_is_log_normal() -> None:
    table = LogNormal(mean_tokens=50_000.0, std_tokens=20_000.0).table()
    sigma = math.sqrt(math.log1p(0.4**2))
    assert np.log(table).std() == pytest.approx(sigma, rel=5e-3)
    assert np.median(table) == pytest.approx(50_000.0 * math.exp(-(sigma**2) / 2), rel=1e-3)


def test_clipping_and_the_shared_part() -> None:
    table = LogNormal(
        mean_tokens=60.0, std_tokens=24.4, min_tokens=18, max_tokens=212, shared_tokens=432
    ).table()
    assert (table.min(), table.max()) == (450, 644)


def test_quantiles_are_hit_and_interpolated() -> None:
    measured = Quantiles(probabilities=[0.0, 0.5, 1.0], tokens=[0, 100, 300])
    assert measured.quantile(np.array([0.0, 0.25, 0.5, 0.75, 1.0])).tolist() == [
        0.0, 50.0, 100.0, 200.0, 300.0,
    ]  # fmt: skip
    assert measured.table().min() == 1  # no request is empty
    assert measured.table().mean() == pytest.approx(125.0, rel=1e-2)


def test_log_normal_quantiles_away_from_the_table_agree_with_it() -> None:
    lengths = LogNormal(mean_tokens=300.0, std_tokens=100.0)
    table = lengths.table()
    median, ninety = lengths.quantile(np.array([0.5, 0.9]))
    assert np.median(table) == pytest.approx(median, abs=0.51)
    assert np.quantile(table, 0.9) == pytest.approx(ninety, abs=1.0)


def test_scale_multiplies_lengths_and_never_reaches_zero() -> None:
    assert Fixed(tokens=100).table(2.5).tolist() == [250] * TABLE_SIZE
    assert Fixed(tokens=3).table(0.01).tolist() == [1] * TABLE_SIZE


def test_a_whole_number_is_one_fixed_length() -> None:
    lengths = Lengths(prompt=512, output=Fixed(tokens=7))
    assert set(lengths.prompt.table()) == {512}
    assert set(lengths.output.table()) == {7}


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: LogNormal(mean_tokens=-1.0, std_tokens=1.0), "mean_tokens"),
        (lambda: LogNormal(mean_tokens=1.0, std_tokens=math.nan), "std_tokens"),
        (lambda: LogNormal(mean_tokens=5.0), "std_tokens"),
        (lambda: LogNormal(mean_tokens=5.0, std_tokens=1.0, shared_tokens=-1), "shared_tokens"),
        (lambda: LogNormal(mean_tokens=5.0, std_tokens=1.0, min_tokens=9, max_tokens=8), "min_"),
        (lambda: Fixed(tokens=0), "tokens"),
        (lambda: Fixed(), "tokens"),
        (lambda: Quantiles(probabilities=[0.0, 1.0], tokens=[5.0]), "tokens"),
        (lambda: Quantiles(probabilities=[0.0, 0.9], tokens=[5.0, 6.0]), "from 0 to 1"),
        (lambda: Quantiles(probabilities=[0.0, 1.0], tokens=[6.0, 5.0]), "ascending"),
        (
            lambda: Quantiles(probabilities=[0.0, 1.0], tokens=[-6.0, 5.0]),
            r"tokens\[0\]: must be >= 0",
        ),
        (lambda: Lengths(prompt="long", output=1), r"lengths\.prompt"),
        (lambda: Lengths(prompt=1), r"lengths\.output"),
        (lambda: Lengths(prompt=True, output=1), r"lengths\.prompt"),
    ],
)
def test_impossible_lengths_are_refused_by_key(make, key: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigurationError, match=key):
        make()


@pytest.mark.parametrize("name", names("workload/lengths"))
def test_every_choice_can_be_built(name: str) -> None:
    lengths = build("workload/lengths", name)
    for side in (lengths.prompt, lengths.output):
        table = side.table()
        assert table.dtype == np.int64
        assert table.min() >= 1
        assert (np.diff(table) >= 0).all()
        scored = name == "scoring" and side is lengths.output  # a single token out
        assert len(set(table.tolist())) > 20 or scored


def test_gsm8k_and_hellaswag_have_the_published_prompt_lengths() -> None:
    # EvalScope's statistics in characters, at 4 characters a token (docs/workloads.md).
    published = {
        "gsm8k": (1966.87, 97.61, 1800, 2575),
        "hellaswag": (767.6, 300.19, 329, 1655),
    }
    for name, (mean, std, shortest, longest) in published.items():
        table = build("workload/lengths", name).prompt.table()
        assert table.mean() == pytest.approx(mean / 4, rel=5e-3)
        assert table.std() == pytest.approx(std / 4, rel=6e-2)
        assert table.min() == pytest.approx(shortest / 4, abs=1.0)
        assert table.max() == pytest.approx(longest / 4, abs=1.0)


@pytest.mark.parametrize(
    ("name", "model_name", "gpu", "tensor", "excess"),
    [
        ("long_context", "mixtral_8x7b", "a100_sxm4_80gb", 2, 1.2),
        ("long_output", "llama2_7b", "a100_sxm4_40gb", 1, 1.5),
    ],
)
def test_long_requests_exhaust_the_cache_at_a_batch_of_64_and_fit_the_context(
    name: str, model_name: str, gpu: str, tensor: int, excess: float
) -> None:
    lengths = build("workload/lengths", name)
    prompt, output = (part.table().astype(float) for part in (lengths.prompt, lengths.output))
    model = build("model", model_name)
    assert prompt.max() + output.max() <= model.max_model_len
    # Requests in flight are longer than requests: they stay as long as their output takes.
    in_flight = prompt.mean() + (output**2).mean() / (2.0 * output.mean())
    cache = kv_cache_tokens(build("gpu", gpu), model, Parallelism(tensor=tensor))
    assert 64 * in_flight > excess * cache
    assert 16 * in_flight < cache


def test_log_normal_tables_are_those_of_scipys_quantiles() -> None:
    """SciPy is not imported to make them: that takes longer than the first episode."""
    from scipy.special import ndtri

    middles = (np.arange(TABLE_SIZE) + 0.5) / TABLE_SIZE
    for mean, std in ((60.0, 24.4), (1000.0, 1500.0), (50_000.0, 20_000.0)):
        variance = math.log1p((std / mean) ** 2)
        exact = np.exp(math.log(mean) - variance / 2 + math.sqrt(variance) * ndtri(middles))
        table = LogNormal(mean_tokens=mean, std_tokens=std).table()
        np.testing.assert_array_equal(table, np.maximum(np.rint(exact), 1))
