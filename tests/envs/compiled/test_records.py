"""Records: classes that say what lies in memory, seen alike by Python and by compiled code."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import numpy as np
import pytest
from numba.np.numpy_support import carray

from envs.compiled.jit import entry_point, fingerprint, kernel
from envs.compiled.records import (
    Floats,
    address_of,
    dtype_of,
    floats_at,
    floats_named,
    floats_of,
    pointer_to,
)
from envs.compiled.rows import Rows


class Inner:
    first: float
    second: float


class Outer:
    count: int
    inner: Inner
    table: Annotated[Floats, floats_of(3)]
    list_offset: int


OUTER = dtype_of(Outer)
_outer = pointer_to(OUTER)


@kernel
def part(address: int) -> float:
    outer = carray(_outer(address), (1,), OUTER)[0]
    outer.count += 2
    outer.inner.second = outer.inner.first + 1.0
    outer.table[1] += 5.0
    behind = floats_at(address_of(outer) + outer.list_offset, 4)
    behind[3] = 7.0
    return behind[0]


@entry_point()
def work(address: int) -> float:
    return part(address)


def rows_of(count: int) -> Rows:
    return Rows(count, OUTER, behind=(np.float64, 4))


def test_compiled_code_and_python_see_the_same_numbers_by_name() -> None:
    rows = rows_of(3)
    records: Any = rows.records
    records.list_offset = rows.offset_of("behind")
    records[1].inner.first = 4.0
    rows.section("behind")[1, 0] = 9.0
    assert work(rows.addresses[1]) == 9.0
    assert (records[1].count, records[1].inner.second) == (2, 5.0)
    assert records[1].table.tolist() == [0.0, 5.0, 0.0]
    assert rows.floats("inner")[1].tolist() == [4.0, 5.0]
    assert rows.section("behind")[:, 3].tolist() == [0.0, 7.0, 0.0]
    assert records.count.tolist() == [0, 2, 0]


def test_a_row_that_is_copied_stands_for_itself() -> None:
    rows = rows_of(2)
    records: Any = rows.records
    records[0].list_offset = rows.offset_of("behind")
    rows._memory[rows._row_bytes :] = rows._memory[: rows._row_bytes]
    work(rows.addresses[1])
    assert records.count.tolist() == [0, 2]
    assert rows.section("behind")[:, 3].tolist() == [0.0, 7.0]


@pytest.mark.parametrize(
    "other",
    [
        np.dtype((np.record, [OUTER.descr[0], *OUTER.descr[:0:-1]])),
        floats_named(("count",)),
    ],
    ids=["another order", "another field"],
)
def test_a_changed_record_is_compiled_again(
    other: np.dtype[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(work)
    monkeypatch.setitem(vars(sys.modules[__name__]), "OUTER", dtype_of(Outer))
    assert fingerprint(work) == before
    monkeypatch.setitem(vars(sys.modules[__name__]), "OUTER", other)
    assert fingerprint(work) != before
