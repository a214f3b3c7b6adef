from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.records.array_cache import cached_array

Compute = Callable[[], NDArray[np.float64]]


@pytest.fixture(autouse=True)
def folder(empty_cache: Path) -> Path:
    return empty_cache / "arrays"


def array(shape: tuple[int, ...], compute: Compute) -> list[float]:
    values: list[float] = cached_array("arrays", "key", shape, compute).tolist()
    return values


def never() -> NDArray[np.float64]:
    raise AssertionError("computed again")


def ones() -> NDArray[np.float64]:
    return np.ones(2)


def test_an_array_is_computed_once() -> None:
    array((1, 2), lambda: np.array([[1.0, np.nan]]))
    np.testing.assert_array_equal(cached_array("arrays", "key", (1, 2), never), [[1.0, np.nan]])


def plain_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(2))
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array at all", plain_array()])
def test_a_file_that_is_not_as_written_is_replaced(folder: Path, content: bytes) -> None:
    array((2,), ones)
    (folder / "key.npy").write_bytes(content)
    assert array((2,), ones) == [1.0, 1.0]
    assert array((2,), never) == [1.0, 1.0]


def test_edited_numbers_are_not_used(folder: Path) -> None:
    array((2,), ones)
    content = (folder / "key.npy").read_bytes()
    (folder / "key.npy").write_bytes(content.replace(np.ones(1).tobytes(), np.zeros(1).tobytes()))
    assert array((2,), ones) == [1.0, 1.0]


def test_another_shape_is_replaced() -> None:
    array((2,), ones)
    assert array((3,), lambda: np.zeros(3)) == [0.0, 0.0, 0.0]


def test_a_cache_that_cannot_be_used_costs_the_computation_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PALS_CACHE", str(tmp_path / "file" / "below"))
    assert array((2,), ones) == [1.0, 1.0]
    assert "below" in caplog.text
