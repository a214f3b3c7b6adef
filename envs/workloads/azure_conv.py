"""The Azure 2023 conversation trace: an hour of a production chat service."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from envs.errors import WorkloadError
from envs.workloads.public_file import PublicFile
from envs.workloads.recording import TraceRow
from envs.workloads.trace import Trace

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@dataclass(kw_only=True)
class AzureConv(Trace):
    """Replay of an Azure LLM inference trace in CSV (2023 and 2024 have one format)."""

    public_file: ClassVar[PublicFile | None] = PublicFile(
        workload="azure_conv",
        url=(
            "https://raw.githubusercontent.com/Azure/AzurePublicDataset/"
            "790921015d50dd6aae7f7e47f39ba0e235ad6b08/data/AzureLLMInferenceTrace_conv.csv"
        ),
        location="azure-llm-2023/AzureLLMInferenceTrace_conv.csv",
        size_bytes=719_188,
        sha256="2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        licence="CC-BY-4.0",
        cite="Patel et al., Splitwise: Efficient generative LLM inference using phase "
        "splitting, ISCA 2024",
    )

    @classmethod
    @override
    def rows(cls, path: Path) -> Iterator[TraceRow]:
        """Reads the columns TIMESTAMP, ContextTokens and GeneratedTokens."""
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in _COLUMNS if name not in header]
            if missing and header:
                raise WorkloadError(
                    f"{path}:1: no column {', '.join(missing)}; there are {', '.join(header)}"
                )
            columns = [header.index(name) for name in _COLUMNS if header]
            try:
                for fields in reader:
                    if fields:
                        yield _row(path, reader.line_num, header, columns, fields)
            except csv.Error as error:
                raise WorkloadError(f"{path}:{reader.line_num}: {error}") from error


def _row(
    path: Path, line: int, header: list[str], columns: list[int], fields: list[str]
) -> TraceRow:
    if len(fields) != len(header):
        raise WorkloadError(
            f"{path}:{line}: {len(fields)} values where the header has {len(header)} columns"
        )
    stamp, prompt, output = (fields[column].strip() for column in columns)
    try:
        time = datetime.fromisoformat(stamp)
        aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
        return TraceRow(line, aware.timestamp(), int(prompt), int(output))
    except ValueError as error:
        raise WorkloadError(f"{path}:{line}: {error}") from error
