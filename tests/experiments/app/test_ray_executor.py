"""Runs spread over a real local Ray."""

from __future__ import annotations

import json
import os

import pytest

from envs import catalog
from envs.errors import ConfigurationError
from experiments.app.ray_executor import RayJobs
from experiments.compare import main


@pytest.mark.parametrize("values", [{"jobs": 0}, {"jobs": -2}, {"object_store_bytes": 0}])
def test_wrong_values_name_the_key(values):
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        RayJobs(**values)


@pytest.mark.long
def test_work_is_done_in_other_processes_and_ray_is_stopped():
    ray = pytest.importorskip("ray")

    def square(number: int) -> tuple[int, int]:  # travels by value: workers know no test files
        return number * number, os.getpid()

    executor = catalog.build("executor", {"base": "ray", "jobs": 2})
    done = list(executor.map(square, list(range(6))))
    assert sorted(value for value, _ in done) == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {pid for _, pid in done}
    assert not ray.is_initialized()


@pytest.mark.long
def test_a_cluster_that_was_joined_before_knows_what_is_allowed_now():
    ray = pytest.importorskip("ray")

    def allowed(_: int) -> list[str]:
        return sorted(catalog.allowed_packages())

    executor = catalog.build("executor", {"base": "ray", "jobs": 2})
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,
             object_store_memory=100_000_000)  # fmt: skip
    try:
        for package in ("old_lab", "new_lab"):
            catalog.allow_package(package)
            known = sorted(catalog.allowed_packages())
            assert list(executor.map(allowed, [0, 1])) == [known, known]
    finally:
        ray.shutdown()


def _without_clocks(metrics):
    """Returns what is the same in every run: the time that decisions take is not."""
    return {name: value for name, value in metrics.items() if not name.startswith("decision_")}


@pytest.mark.long
def test_a_comparison_on_ray_gives_the_same_figures(command, tmp_path):
    pytest.importorskip("ray")
    figures = []
    for executor in ("joblib", "ray"):
        folder = tmp_path / executor
        done = command(
            main, "controllers=[static,governor]", "seeds=1", "duration=20",
            f"executor={executor}", "executor.jobs=1", f"hydra.run.dir={folder}",
        )  # fmt: skip
        assert done.code == 0, done.err
        found = json.loads((folder / "comparison.json").read_text())["controllers"]
        figures.append({name: _without_clocks(metrics) for name, metrics in found.items()})
    assert figures[0] == figures[1]
