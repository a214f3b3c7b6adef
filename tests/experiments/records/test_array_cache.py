from __future__ import annotations

import numpy as np
import pytest

from experiments.records.array_cache import cached_array


def never():
    raise AssertionError("computed again")


def test_an_array_is_computed_once(tmp_path):
    file = tmp_path / "folder" / "key.npy"
    values = np.array([[1.0, np.nan]])
    np.testing.assert_array_equal(cached_array(file, (1, 2), lambda: values), values)
    np.testing.assert_array_equal(cached_array(file, (1, 2), never), values)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array at all"])
def test_a_damaged_file_is_replaced(tmp_path, content):
    file = tmp_path / "key.npy"
    file.write_bytes(content)
    assert cached_array(file, (2,), lambda: np.ones(2)).tolist() == [1.0, 1.0]
    assert cached_array(file, (2,), never).tolist() == [1.0, 1.0]


def test_another_shape_is_replaced(tmp_path):
    file = tmp_path / "key.npy"
    cached_array(file, (2,), lambda: np.ones(2))
    assert cached_array(file, (3,), lambda: np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
