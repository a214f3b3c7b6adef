"""Hands cases to a worker and counts how they end; a worker that crashes or hangs is replaced."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 900.0
FINE = ("accepted", "refused")


class Trials:
    """A worker, and how the cases ended that it was given.

    Attributes:
        classes: Cases by class of outcome.
        bad: The cases that did not end well, with class and message.
    """

    def __init__(self) -> None:
        self.classes: Counter[str] = Counter()
        self._begun_s = time.monotonic()
        self.bad: list[tuple[str, str, Mapping[str, Any]]] = []
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Self:
        return self

    @property
    def seconds(self) -> float:
        """Time since they began."""
        return time.monotonic() - self._begun_s

    def __exit__(self, *error: object) -> None:
        self._end()

    def run(self, case: Mapping[str, Any]) -> str:
        """Tries a case; returns the class of its outcome."""
        kind, message = self._outcome(case)
        self.classes[kind] += 1
        if kind not in FINE:
            self.bad.append((kind, message, case))
        return kind

    def _outcome(self, case: Mapping[str, Any]) -> tuple[str, str]:
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(case) + "\n")
            process.stdin.flush()
            answer = self._answers.get(timeout=LONGEST_S)
        except (BrokenPipeError, queue.Empty) as error:
            ended = process.poll()
            self._end()
            return ("hang", repr(error)) if ended is None else ("crash", f"exit code {ended}")
        if not answer:
            ended = process.wait()
            self._end()
            return "crash", f"exit code {ended}"
        kind, message = json.loads(answer)
        return kind, message

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        answers: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                answers.put(line)
            answers.put("")

        threading.Thread(target=read, daemon=True).start()
        self._process, self._answers = process, answers
        return process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):  # what it did not read
                        stream.close()
            self._process = None
