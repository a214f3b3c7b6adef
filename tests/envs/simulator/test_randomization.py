"""What no data fix is drawn again for every episode, within its range."""

from __future__ import annotations

import numpy as np
import pytest
from support.server_specs import make_server_spec

from envs import catalog
from envs.simulator.calibration import SHARES, randomize
from envs.simulator.fleet import Fleet
from envs.simulator.server_spec import ALPHA_FACTOR, BETA_FACTOR

UNKNOWN = (
    "clock_power_floor_w", "clock_linear_fraction", "clock_exponent", "cap_settling_s",
    "sensor_window_s", "device_spread", "network_efficiency",
)  # fmt: skip


@pytest.mark.parametrize("name", ["a100_sxm4_80gb", "h100_sxm"])
def test_every_unknown_has_a_range_and_draws_fill_it(name: str) -> None:
    calibration = catalog.build("calibration", name)
    rng = np.random.default_rng(0)
    draws = [randomize(calibration, rng) for _ in range(400)]
    for key in (*UNKNOWN, "link_efficiency"):
        values = np.array([getattr(drawn, key) for drawn in draws])
        if key in calibration.ranges:
            low, high = calibration.ranges[key]
            assert low <= values.min() < low + 0.1 * (high - low), key
            assert high - 0.1 * (high - low) < values.max() <= high, key
        else:
            deviation = min(calibration.uncertainty[key], 0.2)
            assert np.std(np.log(values)) == pytest.approx(deviation, rel=0.2), key
    for key in SHARES:
        assert max(getattr(drawn, key) for drawn in draws) <= 1.0, key
    assert set(UNKNOWN) <= calibration.ranges.keys()


def test_sensor_settling_node_and_devices_differ_from_episode_to_episode() -> None:
    server_spec = make_server_spec("poisson_gsm8k", model="llama2_7b", tensor_parallel=4)
    fleet = Fleet([server_spec], randomize=True)
    server = fleet._servers[0]
    seen = []
    for seed in range(40):
        fleet.reset(0, seed)
        seen.append(
            (
                server.cap_settling_s, server.sensor_window_s, server.alpha,
                server.beta_w, *fleet.power_fractions[0],
            )
        )  # fmt: skip
    drawn = np.array(seen)
    assert all(len(np.unique(column)) == 40 for column in drawn.T)
    ranges = server_spec.coefficients.ranges
    alpha, beta_w = server_spec.system_power
    bounds = [
        ranges["cap_settling_s"],
        ranges["sensor_window_s"],
        [alpha * factor for factor in ALPHA_FACTOR],
        [beta_w * factor for factor in BETA_FACTOR],
    ]
    for column, (low, high) in zip(drawn.T, bounds, strict=False):
        assert low <= column.min() < column.max() <= high
    first = seen[3]
    fleet.reset(0, 3)
    assert (server.cap_settling_s, server.alpha) == (first[0], first[2])


def test_without_randomisation_every_episode_has_the_installed_physics() -> None:
    server_spec = make_server_spec("poisson_gsm8k", model="llama2_7b", tensor_parallel=4)
    fleet = Fleet([server_spec])
    for seed in range(3):
        fleet.reset(0, seed)
        server = fleet._servers[0]
        assert server.cap_settling_s == server_spec.coefficients.cap_settling_s
        assert (server.alpha, server.beta_w) == server_spec.system_power
