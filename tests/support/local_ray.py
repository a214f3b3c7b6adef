"""A small Ray on this machine, started patiently: a busy machine may need several attempts."""

from __future__ import annotations

from typing import Any

import pytest

ATTEMPTS = 6


def start_ray() -> Any:
    """Starts Ray with two cores and a small object store; returns the module."""
    ray = pytest.importorskip("ray")
    for attempt in range(ATTEMPTS):
        try:
            ray.init(
                num_cpus=2,
                include_dashboard=False,
                object_store_memory=100_000_000,
                log_to_driver=False,
                _system_config={"worker_niceness": 0},  # 15 otherwise: others starve them
            )
        except Exception as error:  # Ray raises no narrower type here
            ray.shutdown()
            if "timed out during startup" not in str(error) or attempt == ATTEMPTS - 1:
                raise
        else:
            return ray
    raise AssertionError("unreachable")
