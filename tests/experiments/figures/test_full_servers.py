"""Full servers, measured many at a time."""

from __future__ import annotations

import numpy as np
import pytest

from envs.cache import cache_dir
from envs.errors import ConfigurationError
from experiments.figures import saturation
from experiments.figures.grid import best, frontier, knob_grid
from experiments.figures.operating_point import OperatingPoint, is_possible, server_spec_of
from experiments.figures.saturation import SteadyConfig, measure

SHORT = SteadyConfig(seeds=2, settle_s=5.0, measure_s=20.0)
FULL = OperatingPoint("olmoe_1b_7b", 400.0, 64)


def test_a_full_server_delivers_its_rated_throughput():
    found = measure([FULL], SteadyConfig(seeds=2, settle_s=30.0, measure_s=120.0))[FULL]
    rated = server_spec_of(FULL).saturated
    assert found.tokens_per_s("output") == pytest.approx(rated.output_tok_s, rel=0.03)
    assert found.power_w == pytest.approx(rated.power_w, rel=0.03)
    ratio = found.per_joule() / found.per_joule("output")
    workload = server_spec_of(FULL).workload
    prompts = workload.mean_prompt_tokens / workload.mean_output_tokens
    assert ratio == pytest.approx(1.0 + prompts, rel=0.1)
    system_w = 1.05 * found.power_w + 345.0
    assert found["energy_system_j"] == pytest.approx(system_w * found["duration_s"], rel=1e-9)


def test_a_cap_above_the_natural_draw_changes_nothing():
    points = [FULL._replace(cap_w=cap) for cap in (350.0, 400.0)]
    found = measure(points, SHORT)
    first, second = (found[point] for point in points)
    assert (first["cap_binding"] == 0).all()
    np.testing.assert_array_equal(first.per_joule(), second.per_joule())


def test_points_are_paired_by_seed_with_drawn_coefficients_too():
    points = [FULL._replace(batch=batch) for batch in (32, 64)]
    found = measure(points, SteadyConfig(seeds=6, settle_s=5.0, measure_s=20.0), uncertainty=True)
    small, large = (found[point].per_joule() for point in points)
    assert large.std() / large.mean() > 0.03
    assert (large / small).std() / (large / small).mean() < large.std() / large.mean()


def test_measurements_are_cached(empty_cache, monkeypatch):
    first = measure([FULL], SHORT)[FULL].per_joule()
    with monkeypatch.context() as patch:
        patch.setattr(saturation, "_run", lambda *given: pytest.fail("measured again"))
        np.testing.assert_array_equal(measure([FULL], SHORT)[FULL].per_joule(), first)
    (file,) = (cache_dir() / "figures").glob("*.npy")
    file.write_bytes(b"damaged")
    np.testing.assert_array_equal(measure([FULL], SHORT)[FULL].per_joule(), first)


def test_a_model_that_does_not_fit_is_left_out():
    alone = OperatingPoint("mixtral_8x7b", 400.0, 64, tensor=1)
    assert not is_possible(alone)
    assert list(measure([alone, FULL], SHORT)) == [FULL]


def test_the_steady_configuration_is_checked():
    with pytest.raises(ConfigurationError, match=r"figure\.steady\.seeds"):
        SteadyConfig(seeds=0)


def test_the_best_of_a_grid_and_its_frontier():
    points = knob_grid(["olmoe_1b_7b"], [150.0, 400.0], [16, 64], [4], "gsm8k", "a100_sxm4_80gb")
    assert len(points) == 4
    found = measure(points, SHORT)
    top = best(found, "olmoe_1b_7b", lambda point: True)
    assert top.mean() == max(own.per_joule().mean() for own in found.values())
    capped = best(found, "olmoe_1b_7b", lambda point: point.cap_w == 400.0)
    assert capped.mean() <= top.mean()
    assert frontier([(1, 9), (2, 5), (3, 4), (2.5, 6)]) == [(1, 9), (2.5, 6), (3, 4)]
