"""Fixtures of the workload tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from envs.workloads.azure_conv import AzureConv
from envs.workloads.mooncake import Mooncake
from envs.workloads.trace import Trace

WriteTrace = Callable[..., Path]


@pytest.fixture
def write_csv(tmp_path: Path) -> WriteTrace:
    """Writes an Azure-like file from rows of (seconds, prompt, output)."""

    def write(rows: list[tuple[float, int, int]], name: str = "trace.csv") -> Path:
        lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
        for time_s, prompt, output in rows:
            minutes, seconds = divmod(time_s, 60.0)
            lines.append(f"2023-11-16 18:{int(minutes):02d}:{seconds:010.7f},{prompt},{output}")
        path = tmp_path / name
        path.write_text("\r\n".join(lines))
        return path

    return write


@pytest.fixture(params=[AzureConv, Mooncake], ids=["csv", "jsonl"])
def trace_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Trace]:
    """Writes rows of (seconds, prompt, output) in each format and opens them as a workload."""

    def make(rows: list[tuple[float, int, int]], **options: object) -> Trace:
        if request.param is AzureConv:
            lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
            lines += [
                f"2023-11-16 18:{int(t // 60):02d}:{t % 60:09.6f},{prompt},{output}"
                for t, prompt, output in rows
            ]
        else:
            lines = [
                f'{{"timestamp": {round(t * 1000)}, "input_length": {prompt}, '
                f'"output_length": {output}, "hash_ids": [1, 2]}}'
                for t, prompt, output in rows
            ]
        path = tmp_path / "trace"
        path.write_text("\n".join(lines) + "\n")
        trace: Trace = request.param(path=str(path), **options)
        return trace

    return make
