"""Parts of entry points are compiled once, and no further than their callers need."""

from __future__ import annotations

from typing import Any

import pytest

from envs.compiled.jit import INTERPRETED, entry_point, inlined, kernel

pytestmark = pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")


@inlined
def _times(value: float, factor: int) -> float:
    return value * factor


@kernel
def _twice_and_thrice(value: float) -> float:
    return _times(value, 2) + _times(value, 3)


@kernel
def _divided(value: float, by: float = 0.0) -> float:
    return value / by


@entry_point()
def _five_times(value: float) -> float:
    return _twice_and_thrice(value)


@entry_point()
def _over_nothing(value: float) -> float:
    return _divided(value)


def test_a_part_has_one_form_whatever_constants_it_is_handed() -> None:
    assert _five_times(2.0) == 10.0
    part: Any = _times
    assert len(part.overloads) <= 1  # none where the caller came from the cache


def test_parts_divide_as_numpy_does_and_have_defaults() -> None:
    assert _over_nothing(1.0) == float("inf")


def test_a_part_that_python_calls_is_an_error() -> None:
    with pytest.raises(SystemError):
        _twice_and_thrice(1.0)


def test_no_machine_code_is_made_of_a_part() -> None:
    part: Any = kernel(lambda value: value + 1.0)
    part.compile("float64(float64)")
    (form,) = part.overloads.values()
    assert not form.library.codegen._engine.is_symbol_defined(form.fndesc.llvm_func_name)
