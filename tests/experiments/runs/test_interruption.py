"""SIGTERM ends a run even where its exception is lost, in a function that C code has called."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Any

import pytest

from experiments.runs.interruption import Terminated, heed_lost_sigterm, sigterm_interrupts


def test_a_sigterm_whose_exception_was_lost_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    callback = ctypes.CFUNCTYPE(None)

    @callback
    def called_by_c() -> None:
        signal.raise_signal(signal.SIGTERM)

    with sigterm_interrupts():
        heed_lost_sigterm()  # nothing came yet
        called_by_c()
        assert [type(event.exc_value) for event in lost] == [Terminated]
        with pytest.raises(Terminated):
            heed_lost_sigterm()
    with sigterm_interrupts():
        heed_lost_sigterm()  # that was another run


def test_a_sigterm_interrupts_at_once() -> None:
    with sigterm_interrupts(), pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
