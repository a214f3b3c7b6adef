"""Recordings that are too large to be held in memory: kept in the cache folder, and mapped."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from envs import kept_files
from envs.errors import WorkloadError
from envs.workloads import kept_requests, recording
from envs.workloads.azure_conv import AzureConv
from envs.workloads.base import RequestChunk
from envs.workloads.mooncake import Mooncake
from envs.workloads.recording import TraceRow

COUNT = 20_000


@pytest.fixture(autouse=True)
def _all_files_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recording, "LARGE_BYTES", 0)
    monkeypatch.setattr(kept_requests, "_PIECE", 100)
    monkeypatch.setattr(kept_files, "_said", set())
    monkeypatch.setattr(kept_files, "_BLOCK", 10_000)
    recording._read_once.cache_clear()
    yield
    recording._read_once.cache_clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    times = np.round(np.cumsum(rng.exponential(0.5, COUNT)), 1)  # with ties
    tokens = rng.integers(1, 3000, (COUNT, 2))
    file = tmp_path / "day.csv"
    rows = zip(times.tolist(), tokens.tolist(), strict=True)
    file.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        + "".join(f"{time:.1f},{prompt},{output}\n" for time, (prompt, output) in rows)
    )
    return file


def replay(trace: AzureConv, count: int = 48_000) -> RequestChunk:
    stream = trace.stream(np.random.default_rng(1), trace.rate_per_s(2.0))
    return RequestChunk.joined([stream.take(count // 12) for _ in range(12)])


def kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "recordings").iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repeat": True, "random_start": True, "prompt_scale": 1.3},
        {"start_s": 200.0, "end_s": 900.0, "rate": 3.0},
        {"spread_ties": True, "output_scale": 0.1},
    ],
)
def test_requests_and_means_are_those_of_a_recording_in_memory(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    def found() -> tuple[RequestChunk, tuple[float, ...]]:
        trace = AzureConv(path=str(path), **options)  # type: ignore[arg-type]
        means = (trace.mean_prompt_tokens, trace.mean_output_tokens, trace.own_rate_per_s)
        recording._read_once.cache_clear()
        return replay(trace), means

    first, again = found(), found()
    assert len(kept(tmp_path)) == 1
    monkeypatch.setattr(recording, "LARGE_BYTES", 10**9)
    expected = found()
    for other in (first, again):
        assert other[1] == expected[1]
        for ours, theirs in zip(other[0][:3], expected[0][:3], strict=True):
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs)


def test_another_process_does_not_read_the_file_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = AzureConv.read(path)
    recording._read_once.cache_clear()  # as in another process
    monkeypatch.setattr("envs.workloads.tabular.csv_rows", None)
    assert np.array_equal(AzureConv.read(path).time_s, first.time_s)


def test_neither_reading_nor_replaying_takes_memory_for_the_requests(path: Path) -> None:
    AzureConv.read(path)  # what the first reading imports and notes
    path.write_text(path.read_text().replace(",7\n", ",8\n"))
    tracemalloc.start()
    try:
        trace = AzureConv(path=str(path))
        stream = trace.stream(np.random.default_rng(1), trace.rate_per_s(2.0))
        while len(stream.take(100).prompt_tokens):
            assert trace.mean_prompt_tokens > 0.0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < COUNT * kept_requests.REQUEST.itemsize
    assert _mapped_kb("recordings") == 0


def _mapped_kb(folder: str) -> int:
    """Returns how much of the files in a folder is in this process's memory."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key = line.partition(" ")[0]
        if not key.endswith(":"):
            inside = f"/{folder}/" in line
        elif key == "Rss:" and inside:
            found += int(line.split()[1])
    return found


def test_a_damaged_file_in_the_cache_is_made_again(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = AzureConv.read(path).prompt_tokens.tolist()
    recording._read_once.cache_clear()
    (file,) = kept(tmp_path)
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.unlink()
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert AzureConv.read(path).prompt_tokens.tolist() == expected
    assert "not as it was written" in caplog.text


def day(tmp_path: Path, name: str, prompt: int) -> Path:
    file = tmp_path / name
    rows = "".join(f"{time}.0,{prompt},9\n" for time in range(1000))
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    return file


def test_recordings_that_were_not_used_for_longest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_requests, "MOST_BYTES", 60_000)  # two of 24 kB
    monkeypatch.setattr(kept_requests, "_in_use", set())
    files = [day(tmp_path, f"{number}.csv", 100 + number) for number in range(4)]
    names = {}
    for number, file in enumerate(files[:2]):
        AzureConv.read(file)
        (name,) = {found.name for found in kept(tmp_path)} - set(names.values())
        names[number] = name
        os.utime(tmp_path / "cache" / "recordings" / name, (1000 + number, 1000 + number))
    kept_requests._in_use.clear()  # as in another process
    recording._read_once.cache_clear()
    AzureConv.read(files[0])  # used last
    kept_requests._in_use.clear()
    AzureConv.read(files[2])
    left = {found.name for found in kept(tmp_path)}
    assert len(left) == 2
    assert names[0] in left
    assert names[1] not in left


def test_recordings_in_use_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_requests, "MOST_BYTES", 1)
    monkeypatch.setattr(kept_requests, "_in_use", set())
    traces = [AzureConv.read(day(tmp_path, f"{number}.csv", 100 + number)) for number in range(3)]
    assert len(kept(tmp_path)) == 3
    assert [int(trace.prompt_tokens[-1]) for trace in traces] == [100, 101, 102]


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    (tmp_path / "cache" / "recordings").mkdir(parents=True)
    program = (
        "import sys\nfrom envs.kept_files import keeping\n"
        "with keeping('recordings', sys.argv[1]) as write:\n"
        "    write(b'half')\n    print(flush=True)\n    input()\n"
    )
    writers = {
        name: subprocess.Popen(
            [sys.executable, "-c", program, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in ("killed", "slow")
    }
    try:
        for writer in writers.values():
            assert writer.stdout is not None
            writer.stdout.readline()
        writers["killed"].kill()
        writers["killed"].wait()
        for part in kept(tmp_path):
            os.utime(part, (1000, 1000))
        assert len(kept(tmp_path)) == 2
        AzureConv.read(day(tmp_path, "day.csv", 5))
        left = {found.name.split(".")[1] for found in kept(tmp_path) if found.name[0] == "."}
        assert left == {"slow"}
        assert writers["slow"].communicate(b"\n", timeout=30)
        assert (tmp_path / "cache" / "recordings" / "slow").is_file()
    finally:
        for writer in writers.values():
            writer.kill()
            writer.communicate()


def test_what_cannot_be_kept_is_held_in_memory(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "recordings").touch()  # no folder
    with caplog.at_level(logging.WARNING):
        assert len(AzureConv.read(path).time_s) == COUNT
    assert "stay in memory" in caplog.text


def test_an_error_names_the_line_and_nothing_is_kept(path: Path, tmp_path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:300], "5.0,10\n", *lines[300:]]))
    with pytest.raises(WorkloadError, match=r"day\.csv:301: 2 values"):
        AzureConv.read(path)
    assert kept(tmp_path) == []
    path.write_text(lines[0])
    with pytest.raises(WorkloadError, match="no requests"):
        AzureConv.read(path)
    assert kept(tmp_path) == []


def test_a_file_that_changes_while_it_is_read_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def growing(file: Path, *_: object, **__: object) -> Iterator[TraceRow]:
        yield TraceRow(2, 0.0, 1, 1)
        file.write_text("longer or shorter")

    monkeypatch.setattr("envs.workloads.tabular.csv_rows", growing)
    with pytest.raises(WorkloadError, match="changed while it was read"):
        AzureConv.read(path)
    assert kept(tmp_path) == []


def test_code_that_may_be_other_code_next_time_keeps_nothing(path: Path, tmp_path: Path) -> None:
    class Own(AzureConv):
        """Not of a package that is allowed, so that its code is part of no hash."""

    assert Own.__module__.partition(".")[0] not in ("envs", "experiments")
    assert len(Own.read(path).time_s) == COUNT
    assert not (tmp_path / "cache" / "recordings").exists()


def test_prompts_that_are_known_to_begin_alike_stay_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(
        "".join(
            f'{{"timestamp": {time}, "input_length": 600, "output_length": 9, "hash_ids": {ids}}}\n'
            for time, ids in ((0, []), (1000, [5, 6]), (2000, [5, 7]))
        )
    )
    read = Mooncake.read(file)
    assert read.first_id.tolist() == [-1, 0, 2]
    assert read.text_ids.tolist() == [0, 1, 0, 2]
    assert kept(tmp_path) == []


def test_a_last_line_without_an_end_is_told_each_time(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(path.read_text().rstrip())
    for _ in range(2):
        caplog.clear()
        recording._read_once.cache_clear()
        with caplog.at_level(logging.WARNING):
            AzureConv.read(path)
        assert "no line end" in caplog.text
