"""The definitions of a QoS violation."""

from __future__ import annotations

import numpy as np
import pytest

from envs.errors import ConfigurationError
from envs.factory import make_simulated
from envs.objectives.qos import (
    QoSConfig,
    shortfall,
    violation_plain,
    violation_reference,
    work_waits,
)


def test_shortfall_is_relative_and_never_negative() -> None:
    got = shortfall(np.array([50.0, 150.0, 10.0]), np.array([100.0, 100.0, 0.0]))
    np.testing.assert_allclose(got, [0.5, 0.0, 0.0])


@pytest.mark.parametrize(
    ("throughput", "target", "waiting", "reference", "plain", "backlog", "relative"),
    [
        (94.0, 100.0, 3, 200.0, True, True, True),
        (94.0, 100.0, 0, 200.0, True, False, True),
        (94.0, 100.0, 3, 96.0, True, True, False),
        (96.0, 100.0, 3, 200.0, False, False, False),
        (50.0, 0.0, 3, 200.0, False, False, False),
    ],
)
def test_definitions_differ_as_defined(
    throughput: float,
    target: float,
    waiting: int,
    reference: float,
    plain: bool,
    backlog: bool,
    relative: bool,
) -> None:
    assert violation_plain(throughput, target, 0.05) == plain
    below = violation_plain(throughput, target, 0.05)
    assert (below & work_waits(waiting, 2.0, 0.5)) == backlog
    assert not below & work_waits(waiting, 0.1, 0.5)
    assert violation_reference(throughput, target, reference, 0.05) == relative


@pytest.mark.parametrize(
    ("key", "value"), [("window_s", 0.0), ("tolerance", 1.0), ("tolerance", -0.1), ("warmup_s", -1)]
)
def test_impossible_values_name_their_key(key: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"objective\.qos\.{key}"):
        QoSConfig(**{key: value})


def test_nothing_but_the_first_window_is_left_out() -> None:
    """What is left out is free to be used: energy counts in it, and violations do not."""
    qos = QoSConfig()
    begins_s = np.arange(0.0, 40.0, 0.5)
    assert begins_s[qos.evaluates(begins_s)][0] == qos.window_s == qos.warmup_s


@pytest.mark.parametrize("warmup_s", [0.0, 0.2, 0.5, 9.9, 10.0, 10.2, 10.3])
@pytest.mark.parametrize("interval_s", [0.1, 0.5, 0.7])
def test_the_number_of_the_first_interval_is_that_of_its_time(
    warmup_s: float, interval_s: float
) -> None:
    qos = QoSConfig(warmup_s=warmup_s)
    begins_s = interval_s * np.arange(200)
    assert qos.evaluates(begins_s).argmax() == qos.first_evaluated(interval_s)


@pytest.mark.parametrize("warmup_s", [1.2, 1.0, 0.0])
def test_an_environment_leaves_out_what_an_evaluation_does(warmup_s: float) -> None:
    env = make_simulated(
        objective={
            "base": "throughput_target", "target": {"value": 10.0},  # nobody delivers that
            "qos": {"warmup_s": warmup_s},
        },
    )  # fmt: skip
    env.reset(seed=1)
    below = [env.step(env.action_space.sample())[4]["violation_plain"] for _ in range(20)]
    np.testing.assert_array_equal(below, env.context.qos.evaluates(0.5 * np.arange(20)))
