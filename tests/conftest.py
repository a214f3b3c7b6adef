"""Settings of all tests; this file's folder is where ``support`` is imported from."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from envs.cache import cache_dir

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("PALS_COMPILED", str(cache_dir() / "compiled"))
"""Compiled code takes long to make; caches of a test's own share it."""

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _no_package_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test's command line allows is not left to the next, nor the folders it names."""
    monkeypatch.setenv("PALS_ALLOW_PACKAGES", "")
    monkeypatch.setenv("PALS_CONF", "")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of measured data; skips where there is none."""
    folder = Path(os.environ.get("PALS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no measured data at {folder}; set PALS_DATA")
    return folder
