"""Traces as spreadsheets, pandas and other tools save them: read right, or refused with a place."""

from __future__ import annotations

import gzip
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.catalog import build
from envs.errors import PalsError, WorkloadError
from envs.workloads.azure_conv import AzureConv
from envs.workloads.mooncake import Mooncake
from envs.workloads.recording import Recording

ROWS = [(0.0, 1627, 393), (0.75, 215, 137), (2.5, 2040, 212)]
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:17:{time + 3:010.7f},{prompt},{output}\n" for time, prompt, output in ROWS
)
RECORDS: list[dict[str, Any]] = [
    {"timestamp": 1000 * time, "input_length": prompt, "output_length": output}
    for time, prompt, output in ROWS
]
JSONL = "".join(json.dumps(record) + "\n" for record in RECORDS)


def as_csv(header: str, scale: float = 1.0, separator: str = ",") -> str:
    rows = [f"{time * scale}{separator}{p}{separator}{o}" for time, p, o in ROWS]
    return "\n".join([header.replace(",", separator), *rows])


SAME: dict[str, bytes] = {
    "as published": AZURE.encode(),
    "gzipped": gzip.compress(AZURE.encode()),
    "UTF-16": AZURE.encode("utf-16"),
    "UTF-16, other end first": b"\xfe\xff" + AZURE.encode("utf-16-be"),
    "gzipped UTF-16": gzip.compress(AZURE.encode("utf-16")),
    "byte order mark, CRLF": AZURE.replace("\n", "\r\n").encode("utf-8-sig"),
    "carriage returns only": AZURE.replace("\n", "\r").encode(),
    "names in another encoding": AZURE.replace("Tokens\n", "Tokens,R\n").replace(
        "393\n", "393,Z\n").replace("137\n", "137,\xfcb\n").replace(
        "212\n", "212,\xe9\n").encode("latin-1"),
    "semicolons": AZURE.replace(",", ";").encode(),
    "tabs": AZURE.replace(",", "\t").encode(),
    "Excel's separator line": b"sep=,\n" + AZURE.encode(),
    "a comment": b"# exported by a tool\n" + AZURE.encode(),
    "spaces": AZURE.replace(",", " , ").encode(),
    "quotes": ("".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in AZURE.splitlines()
    )).encode(),
    "empty rows and cells": (AZURE.replace("393\n", "393,,,\n") + ",,,,\n,,\n\n").encode(),
    "whole numbers with a point": AZURE.replace("393\n", "393.0\n").replace(
        ",1627,", ",1627.0,").encode(),
    "whole numbers with an exponent": AZURE.replace(",2040,", ",2.04E+03,").encode(),
    "an index of pandas": "".join(
        f"{'' if not i else i - 1},{line}\n" for i, line in enumerate(AZURE.splitlines())
    ).encode(),
    "a header repeated": (AZURE + AZURE.partition("\n")[0] + "\n").encode(),
    "lower case": AZURE.lower().encode(),
    "a time zone": AZURE.replace("0000,", "0000+05:30,").encode(),
    "Z": AZURE.replace("0000,", "0000Z,").replace(" 18", "T18").encode(),
    "UTC": AZURE.replace("0000,", "0000 UTC,").encode(),
    "seconds": as_csv("TIMESTAMP,ContextTokens,GeneratedTokens").encode(),
    "seconds since 1970": "\n".join(
        ["TIMESTAMP,ContextTokens,GeneratedTokens"]
        + [f"{1700158620 + time},{p},{o}" for time, p, o in ROWS]).encode(),
    "BurstGPT": "\n".join(
        ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"]
        + [f"{t},GPT-4,{p},{o},{p + o},API log" for t, p, o in ROWS]).encode(),
    "splitwise-sim": "\n".join(
        ["request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size"]
        + [f"{i},0,0,{t},1,{p},{o}" for i, (t, p, o) in enumerate(ROWS)]).encode(),
    "Vidur": as_csv("arrived_at,num_prefill_tokens,num_decode_tokens").encode(),
    "Mooncake": JSONL.encode(),
    "Mooncake, byte order mark, CRLF": JSONL.replace("\n", "\r\n").encode("utf-8-sig"),
    "Mooncake as CSV": as_csv("timestamp,input_length,output_length", 1000.0).encode(),
    "a JSON list": json.dumps(RECORDS).encode(),
    "a JSON list on many lines": json.dumps(RECORDS, indent=1).encode(),
    "a JSON list in an object": json.dumps({"requests": RECORDS}, indent=1).encode(),
    "beside a longer list of words": json.dumps(
        {"models": ["a", "b", "c", "d", "e"], "requests": RECORDS}).encode(),
    "beside a longer list of other objects": json.dumps(
        {"gpus": [{"name": "x"}] * 5, "requests": RECORDS}).encode(),
    "with the time of the export": json.dumps(
        {"timestamp": "2024-01-01", "requests": RECORDS}).encode(),
    "requests that hold their messages": "\n".join(
        json.dumps({"arrived_at": time, "num_prefill_tokens": p, "num_decode_tokens": o,
                    "messages": [{"role": "user"}]}) for time, p, o in ROWS).encode(),
    "JSON objects on many lines": "\n".join(json.dumps(r, indent=2) for r in RECORDS).encode(),
    "JSON numbers as text": "\n".join(
        json.dumps({key: str(value) for key, value in record.items()}) for record in RECORDS
    ).encode(),
    "other keys": JSONL.replace("_length", "_tokens").encode(),
    "gzipped JSON": gzip.compress(JSONL.encode()),
}  # fmt: skip


@pytest.mark.parametrize("cls", [AzureConv, Mooncake])
@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
def test_the_same_requests_are_read_from(
    content: bytes, cls: type[AzureConv] | type[Mooncake], tmp_path: Path
) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content)
    recording = cls.read(path)
    assert recording.time_s == pytest.approx([row[0] for row in ROWS], abs=1e-6)
    assert recording.prompt_tokens.tolist() == [row[1] for row in ROWS]
    assert recording.output_tokens.tolist() == [row[2] for row in ROWS]


REFUSED: dict[str, tuple[bytes, int | None, str]] = {
    "an empty cell": (AZURE.replace(",2040,", ",,").encode(), 4, "ContextTokens"),
    "NaN": (AZURE.replace(",2040,", ",NaN,").encode(), 4, "ContextTokens"),
    "NUL": (AZURE.replace(",2040,", ",20\x0040,").encode(), 4, "NUL"),
    "no header": (AZURE.partition("\n")[2].encode(), 1, "(?i)no column TIMESTAMP"),
    "minutes and seconds": (AZURE.replace("2023-11-16 18:", "").encode(), 2, "TIMESTAMP"),
    "unsorted": ("\n".join(AZURE.splitlines()[i] for i in (0, 2, 1, 3)).encode(), 3, "backwards"),
    "no answer": (AZURE.replace(",212", ",0").encode(), 4, "skip_failed"),
    "JSON cut off": (JSONL[:-20].encode(), 3, "not JSON"),
    "a list cut off": (json.dumps(RECORDS, indent=1)[:-30].encode(), None, "not JSON"),
    "a list without an end": (json.dumps(RECORDS)[:-1].encode(), 1, "no end"),
    "null": (JSONL.replace("2040", "null").encode(), 3, "input_length"),
    "JSON nested without end": (b"[" * 100_000, 1, "not JSON"),
    "infinity": (JSONL.replace("2500.0", "Infinity").encode(), 3, "timestamp must be finite"),
    "a huge number": (JSONL.replace("2500.0", "1" + "0" * 400).encode(), 3, "timestamp"),
    "delays": (b'{"delay": 0, "input_length": 5, "output_length": 5}', 1, "delay"),
    "ShareGPT": (b'[{"id": "x", "conversations": [{"from": "human", "value": "hi"}]}]', 1,
                 "conversations"),
    "ShareGPT, one a line": (b'{"id": "x", "conversations": [{"from": "human"}]}\n' * 2, 1,
                             "conversations"),
    "two objects that hold lists": ((json.dumps({"requests": RECORDS}) + "\n").encode() * 2, 1,
                                    "more follows"),
    "two lists that hold requests": (json.dumps({"a": RECORDS, "b": RECORDS}).encode(), 1,
                                     "2 lists of requests"),
    "a list after a list": ((json.dumps(RECORDS) + "\n").encode() * 2, 2, "more follows the list"),
    "words after a list": (json.dumps(RECORDS, indent=1).encode() + b"\n\nend", 19,
                           "more follows the list"),
    "a column twice": (AZURE.replace("Tokens\n", "Tokens,ContextTokens\n").replace(
        "393\n", "393,1\n").encode(), 1, "two columns are called ContextTokens"),
    "a column twice, in another case": (
        AZURE.replace("Tokens\n", "Tokens,timestamp \n").encode(), 1,
        "two columns are called (TIMESTAMP|timestamp)"),
    "a key twice, in another case": (
        JSONL.replace('"timestamp": 0', '"Timestamp": 5, "timestamp": 0').encode(), 1,
        "two keys are called"),
    "a header without end": (AZURE.replace("Tokens\n", f"Tokens,{'x' * 200_000}\n").encode(), 1,
                             "field larger"),
    "a spreadsheet": (b"PK\x03\x04" + b"\0" * 40, None, "save it as CSV"),
    "Parquet": (b"PAR1" + b"\0" * 40, None, "Parquet"),
    "half of a gzip": (gzip.compress(AZURE.encode())[:-9], None, "cannot be unpacked"),
    "half of UTF-16": (AZURE.encode("utf-16")[:-3], 4, "GeneratedTokens"),
    "far beyond all years": (JSONL.replace("2500.0", "1e308").encode(), 3,
                             "timestamp is 1e[+]308.*time_unit"),
    "a negative one": (AZURE.replace("2023-11-16 18:17:03.0000000", "-1e308").encode(), 2,
                       "TIMESTAMP is -1e[+]308.*time_unit"),
    "a number after dates": (AZURE.replace("2023-11-16 18:17:05.5000000", "5.5").encode(), 4,
                             "TIMESTAMP is '5.5', a number, .* a date and time"),
    "a date after numbers": (JSONL.replace("2500.0", '"2023-11-16 18:17"').encode(), 3,
                             "timestamp is '2023-11-16 18:17', a date and time, .* a number"),
    "a zone after none": (AZURE.replace("05.5000000", "05.5000000Z").encode(), 4,
                          "TIMESTAMP is .*Z', a date and time with a zone"),
    "a day after times": (AZURE.replace("2023-11-16 18:17:05.5000000", "2023-11-17").encode(), 4,
                          "TIMESTAMP is .* a date without a time"),
    "other keys": ((JSONL.partition("\n")[0] + '\n{"arrived_at": 9, "num_prefill_tokens": 5, '
                    '"num_decode_tokens": 5}').encode(), 2, "arrived_at.*before timestamp"),
    "milliseconds since 1970": (as_csv("arrived_at,num_prefill_tokens,num_decode_tokens").replace(
        "0.0", "1700158623980").encode(), 2, "time_unit"),
    "seconds since 1970 for Mooncake": (JSONL.replace("0.0,", "1700158623,").encode(), 1,
                                        "time_unit"),
}  # fmt: skip


@pytest.mark.parametrize("cls", [AzureConv, Mooncake])
@pytest.mark.parametrize(("content", "line", "named"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_with_its_place(
    content: bytes,
    line: int | None,
    named: str,
    cls: type[AzureConv] | type[Mooncake],
    tmp_path: Path,
) -> None:
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=named) as caught:
        cls.read(path)
    place = f"{path}:" if line is None else f"{path}:{line}: "
    assert str(caught.value).startswith(place)


def read(path: Path, text: str, **options: object) -> Recording:
    path.write_text(text)
    trace = build("workload", {"base": "mooncake", "path": str(path), **options})
    recording: Recording = trace.read(path, trace.time_unit, skip_failed=trace.skip_failed)
    return recording


def test_a_unit_can_be_given(tmp_path: Path) -> None:
    text = JSONL.replace("750.0", "0.75").replace("2500.0", "2.5")
    in_seconds = read(tmp_path / "a", text, time_unit="s")
    assert in_seconds.time_s == pytest.approx([0.0, 0.75, 2.5])
    epoch = JSONL.replace(": 0.0,", ": 1700158623000000,").replace("750.0", "1700158624000000")
    late = read(tmp_path / "b", epoch.replace("2500.0", "1700158626000000"), time_unit="us")
    assert late.time_s == pytest.approx([0.0, 1.0, 3.0])
    with pytest.raises(PalsError, match=r"workload\.time_unit"):
        build("workload", {"base": "mooncake", "time_unit": "minutes"})


def test_failed_requests_can_be_left_out(tmp_path: Path) -> None:
    recording = read(tmp_path / "trace", JSONL.replace("137", "0"), skip_failed=True)
    assert recording.prompt_tokens.tolist() == [1627, 2040]


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ([f"{second}" for second in range(60)], "60 requests within 0.059 s are 1017 requests/s"),
        (['"2023-11-16 18:17"'] * 60, "60 requests arrive at one instant"),
        ([f'"2023-11-16 18:{i // 30:02d}"' for i in range(90)], "at 3 instants, 60 s apart: 30"),
        ([f"{i * 10_000_000_000}" for i in range(20)], "one in 9500000 s"),
    ],
)
def test_times_that_cannot_be_meant_are_doubted_with_the_numbers(
    times: list[str], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "\n".join(
        f'{{"timestamp": {time}, "input_length": 9, "output_length": 9}}' for time in times
    )
    with caplog.at_level(logging.WARNING):
        read(tmp_path / "trace", text)
    assert says in caplog.text
    assert "workload." in caplog.text
    caplog.clear()
    if "requests/s" in says:
        read(tmp_path / "again", text, time_unit="ms")
        assert not caplog.text


def test_ordinary_traces_are_not_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lengths = np.random.default_rng(1).exponential(200.0, 500).cumsum()
    text = "\n".join(
        f'{{"timestamp": {time}, "input_length": 9, "output_length": 9}}' for time in lengths
    )
    with caplog.at_level(logging.WARNING):
        read(tmp_path / "trace", text)
    assert not caplog.text


def test_a_window_of_no_length_has_no_rate(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(as_csv("arrived_at,num_prefill_tokens,num_decode_tokens", 1e-320))
    trace: Any = build("workload", {"base": "mooncake", "path": str(path)})
    with pytest.raises(WorkloadError, match="at one instant"):
        _ = trace.own_rate_per_s


def test_eight_digits_are_a_number_and_not_a_date(tmp_path: Path) -> None:
    text = as_csv("arrived_at,num_prefill_tokens,num_decode_tokens").replace("2.5", "20231116")
    assert read(tmp_path / "trace", text).time_s[-1] == 20231116.0


def test_of_the_collected_traces_each_is_read_or_refused_with_a_place(data_dir: Path) -> None:
    folder = data_dir.parent.resolve() / "cases" / "traces"
    if not folder.is_dir():
        pytest.skip(f"no collected traces at {folder}")
    outcomes: Counter[str] = Counter()
    for path in sorted(folder.iterdir()):
        cls = Mooncake if path.name.startswith("mc") else AzureConv
        try:
            recording = cls.read(path)
        except WorkloadError as error:
            outcomes["with a place" if str(error).startswith(str(path)) else "lost"] += 1
        else:
            assert recording.prompt_tokens[0] in (1627, 1630, 10, 1785)
            outcomes["read"] += 1
    assert not outcomes["lost"]
    assert outcomes["read"] >= 39


@pytest.mark.parametrize("ended", [True, False])
def test_a_last_line_without_an_end_is_told(
    ended: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A download that was cut short may end within a number: 212 became 2."""
    text = AZURE if ended else AZURE[:-3]
    with caplog.at_level(logging.WARNING):
        recording = read(tmp_path / "trace", text)
    assert recording.output_tokens[-1] == (212 if ended else 2)
    told = f"{tmp_path / 'trace'}:4: the last line has no line end"
    assert (told in caplog.text) != ended


def test_the_public_file_ends_without_a_line_end(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = data_dir / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.csv"
    assert AzureConv.public_file is not None
    if not file.is_file() or file.stat().st_size != AzureConv.public_file.size_bytes:
        pytest.skip(f"no public file at {file}")
    with caplog.at_level(logging.WARNING):
        list(AzureConv.rows(file))
    assert not caplog.text


@pytest.mark.parametrize(("size", "says"), [(512, ""), (64, "26 for"), (1024, "2 for")])
def test_ids_whose_number_does_not_fit_the_prompt_are_told(
    size: int, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**row, "hash_ids": list(range(-(-row["input_length"] // size)))} for row in RECORDS]
    with caplog.at_level(logging.WARNING):
        read(tmp_path / "trace", "".join(json.dumps(row) + "\n" for row in rows))
    assert bool(says) == bool(caplog.text)
    if says:
        told = f"hash_ids are {says} a prompt of 1627 tokens, which has 4 parts of 512 tokens"
        assert f"{tmp_path / 'trace'}:1: {told}" in caplog.text
        assert f"({3 if size < 512 else 2} requests of 3 are so; parts of " in caplog.text
