"""Memory fetched ahead: any address is fine, and nothing there changes."""

from __future__ import annotations

import numpy as np

from envs.compiled.jit import entry_point
from envs.compiled.prefetch import fetch, fetch_bytes


@entry_point()
def _fetched(address: int, size: int) -> int:
    fetch_bytes(address, size)
    return fetch(address)


def test_fetching_reads_nothing_and_writes_nothing() -> None:
    memory = np.arange(1000)
    _fetched(memory.ctypes.data, memory.nbytes)
    np.testing.assert_array_equal(memory, np.arange(1000))


def test_an_address_outside_of_all_memory_does_no_harm() -> None:
    for address in (0, -8, 1 << 60, 7):
        _fetched(address, 4096)
