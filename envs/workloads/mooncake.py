"""Mooncake's traces: long contexts from the production service of Kimi."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from envs.errors import WorkloadError
from envs.workloads.public_file import PublicFile
from envs.workloads.recording import TraceRow
from envs.workloads.trace import Trace

_KEYS = ("timestamp", "input_length", "output_length")


@dataclass(kw_only=True)
class Mooncake(Trace):
    """Replay of a Mooncake trace: JSON lines with timestamp (ms), input and output length.

    The public traces record time in steps of 3 s, so that many requests arrive at once;
    ``spread_ties`` spreads them. ``hash_ids`` (shared prefixes) are not used, because
    prefix caching is off.
    """

    public_file: ClassVar[PublicFile | None] = PublicFile(
        workload="mooncake",
        url=(
            "https://raw.githubusercontent.com/kvcache-ai/Mooncake/"
            "a2a4b18ac537fd798d50e6e9f57031ce86419a37/FAST25-release/traces/"
            "conversation_trace.jsonl"
        ),
        location="mooncake/conversation_trace.jsonl",
        size_bytes=3_029_533,
        head_rows=1000,
        head_sha256="dada432983625bb163ad4e4d46a17cded4ef5424d98c4c3b5ba82d82e48bdfea",
        licence="Apache-2.0",
        cite="Qin et al., Mooncake: Trading more storage for less computation, FAST 2025",
    )

    @classmethod
    @override
    def rows(cls, path: Path) -> Iterator[TraceRow]:
        """Reads one request per line."""
        with path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if text.strip():
                    yield _row(path, line, text)


def _row(path: Path, line: int, text: str) -> TraceRow:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise WorkloadError(f"{path}:{line}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise WorkloadError(f"{path}:{line}: not a JSON object")
    missing = [key for key in _KEYS if key not in record]
    if missing:
        raise WorkloadError(f"{path}:{line}: no key {', '.join(missing)}")
    timestamp = record["timestamp"]
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        raise WorkloadError(f"{path}:{line}: timestamp must be a number, got {timestamp!r}")
    if not math.isfinite(timestamp):
        raise WorkloadError(f"{path}:{line}: timestamp must be finite, got {timestamp!r}")
    prompt, output = (_tokens(path, line, key, record[key]) for key in _KEYS[1:])
    return TraceRow(line, timestamp / 1000.0, prompt, output)


def _tokens(path: Path, line: int, key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise WorkloadError(f"{path}:{line}: {key} must be a whole number, got {value!r}")
    return value
