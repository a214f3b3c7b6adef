"""A GPU's numbers have bounds that make physical sense, alone and together."""

from __future__ import annotations

import pytest

from envs import catalog
from envs.errors import ConfigurationError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("idle_power_w", 1e9),
        ("idle_power_w", 400.0),
        ("sm_clock_step_mhz", 1e-9),
        ("power_cap_min_w", 400.0),
        ("sm_clock_min_mhz", 1e5),
    ],
)
def test_a_number_that_no_gpu_has_is_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"gpu\.{key}"):
        catalog.build("gpu", {"base": "a100_sxm4_80gb", key: value})
