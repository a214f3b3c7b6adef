"""Fixtures of the live server's tests."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_support import FAKE_NVML, FakeGpus, FakeVllm, end_keepers, small_workload


@pytest.fixture(autouse=True)
def _locks_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the tests' locks away from those of real controllers."""
    monkeypatch.setenv("PALS_RUN_DIR", str(tmp_path / "private"))


@pytest.fixture(autouse=True)
def _end_keepers() -> Iterator[None]:
    yield
    end_keepers()


@pytest.fixture
def fake_vllm() -> Iterator[FakeVllm]:
    server = FakeVllm.anywhere()
    yield server
    server.stop()


@pytest.fixture
def workload() -> Any:
    return small_workload()


@pytest.fixture
def fake_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    file = tmp_path / "nvml.json"
    path = [str(FAKE_NVML), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("FAKE_NVML_STATE", str(file))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.syspath_prepend(str(FAKE_NVML))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    module = importlib.import_module("pynvml")
    assert module.__file__ is not None
    assert Path(module.__file__).parent == FAKE_NVML
    gpus = FakeGpus(module, file)
    gpus.set({})
    # Leaves the real bindings to the next import.
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return gpus
