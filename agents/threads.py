"""How many threads torch works on, beside simulated servers that have threads of their own."""

from __future__ import annotations

import numba
import torch


def set_torch_threads(count: int) -> None:
    """Has torch work on so many threads, and keeps it to them.

    Numba and torch share one OpenMP runtime, whose number of threads Numba sets when it starts its
    own: with the first step of many servers torch would go over to all cores, whatever it had been
    told, sums would be taken in another order, and two trainings at once would wait for each
    other. So Numba's threads are started first.

    Args:
        count: Number of threads.
    """
    numba.set_num_threads(numba.get_num_threads())  # starts them
    torch.set_num_threads(count)
