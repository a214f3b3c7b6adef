"""Downloads, against a server on this machine."""

import dataclasses
import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.errors import WorkloadError
from envs.workloads.azure_conv import AzureConv
from envs.workloads.mooncake import Mooncake
from envs.workloads.recording import head_sha256
from experiments.download import check, download, main, public_traces

GOOD = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + b"".join(
    f"2023-11-16 18:00:{index:02d}.5,{index + 1},{index + 2}\n".encode() for index in range(60)
)
SHA256 = hashlib.sha256(GOOD).hexdigest()
JSONL = "".join(
    json.dumps({"timestamp": 3000 * i, "input_length": 5 + i, "output_length": 7, "hash_ids": [i]})
    + "\n"
    for i in range(40)
).encode()


ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("PALS_DATA", ROOT.parent / "shared" / "data"))


class _Server(http.server.ThreadingHTTPServer):
    content = GOOD
    announced: int | None = None
    requests = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path != "/trace":
            self.send_error(404)
            return
        self.send_response(200)
        announced = self.server.announced
        length = len(self.server.content) if announced is None else announced
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def url(server: _Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/trace"


@pytest.fixture
def data_dir(cache: Path) -> Path:
    if not DATA.is_dir():
        pytest.skip(f"no measured data at {DATA}; set PALS_DATA")
    return DATA


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PALS_DATA", raising=False)
    return tmp_path / "cache"


def test_a_download_lies_where_the_workload_looks(url: str, cache: Path) -> None:
    path, digest = download(AzureConv, url=url, sha256=SHA256)
    assert path.read_bytes() == GOOD
    assert digest == SHA256
    assert cache in path.parents
    assert AzureConv().file == path
    assert AzureConv().own_rate_per_s == pytest.approx(1.0, rel=1e-6)


def test_a_good_file_is_not_fetched_again(url: str, server: _Server) -> None:
    download(AzureConv, url=url, sha256=SHA256)
    download(AzureConv, url=url, sha256=SHA256)
    assert server.requests == 1


def test_a_damaged_file_is_fetched_again(url: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(GOOD[:50])
    download(AzureConv, to=path, url=url, sha256=SHA256)
    assert path.read_bytes() == GOOD


@pytest.mark.parametrize("failure", ["wrong hash", "broken off", "missing", "no server"])
def test_a_failed_download_leaves_what_was_there(
    failure: str, url: str, server: _Server, tmp_path: Path
) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"what was there before")
    if failure == "wrong hash":
        server.content = GOOD.replace(b"18:00", b"19:00")
        problem = "SHA-256 is"
    elif failure == "broken off":
        server.announced = 10 * len(GOOD)
        problem = f"after {len(GOOD)} of {10 * len(GOOD)} bytes"
    elif failure == "missing":
        url += "/else"
        problem = "404"
    else:
        url = "http://127.0.0.1:9/trace"
        problem = "--url"
    with pytest.raises(WorkloadError) as caught:
        download(AzureConv, to=path, url=url, sha256=SHA256)
    assert problem in str(caught.value)
    assert url in str(caught.value)
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.glob(".partial*")) == []


def test_an_address_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="not-an-address"):
        download(AzureConv, to=tmp_path / "trace.csv", url="not-an-address")


def test_without_a_known_hash_size_and_first_requests_are_checked(
    url: str, server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = tmp_path / "sample.jsonl"
    sample.write_bytes(JSONL)
    assert Mooncake.public_file is not None
    head = head_sha256(Mooncake.read(sample), 10)
    public = dataclasses.replace(
        Mooncake.public_file, size_bytes=len(JSONL), head_rows=10, head_sha256=head
    )
    monkeypatch.setattr(Mooncake, "public_file", public)
    server.content = JSONL
    path, digest = download(Mooncake, url=url)
    assert path.read_bytes() == JSONL
    assert digest == hashlib.sha256(JSONL).hexdigest()

    for content, problem in (
        (JSONL[:-1], "bytes, not"),
        (JSONL.replace(b'"input_length": 6,', b'"input_length": 9,'), "first 10 requests"),
        (JSONL.replace(b"}", b"]", 1), ":1: not JSON"),
    ):
        server.content = content
        with pytest.raises(WorkloadError, match=problem):
            download(Mooncake, to=tmp_path / "other.jsonl", url=url)
        assert not (tmp_path / "other.jsonl").exists()


def test_the_public_azure_file_has_the_known_hash(data_dir: Path) -> None:
    assert AzureConv.public_file is not None
    path = data_dir / AzureConv.public_file.location
    assert check(AzureConv, path) == AzureConv.public_file.sha256
    assert path.stat().st_size == AzureConv.public_file.size_bytes


def test_the_head_of_the_public_mooncake_file_has_the_known_hash(data_dir: Path) -> None:
    assert Mooncake.public_file is not None
    recording = Mooncake.read(data_dir / "mooncake" / "conversation_trace_head.jsonl")
    rows = Mooncake.public_file.head_rows
    assert head_sha256(recording, rows) == Mooncake.public_file.head_sha256
    assert head_sha256(recording, rows - 1) != Mooncake.public_file.head_sha256


def test_public_traces_are_pinned_to_a_version() -> None:
    traces = public_traces()
    assert set(traces) >= {"azure_conv", "mooncake"}
    for name, trace in traces.items():
        assert trace.public_file is not None
        assert trace.public_file.workload == name
        assert any(len(part) == 40 for part in trace.public_file.url.split("/"))


def test_the_command_says_where_the_file_lies(
    url: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["azure_conv", "--url", url, "--sha256", SHA256]) == 0
    printed = capsys.readouterr().out
    assert str(cache) in printed
    assert SHA256 in printed
    assert "CC-BY-4.0" in printed


def test_the_command_fails_with_one_message(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["poisson_gsm8k"]) == 1
    assert "azure_code, azure_conv, mooncake" in capsys.readouterr().err
    assert main(["azure_conv", "--url", url]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_a_file_without_an_end_is_given_up(cache: Path) -> None:
    """It would fill the disk."""
    with pytest.raises(WorkloadError, match=r"file:///dev/zero: more than the \d+ bytes"):
        download(AzureConv, url="file:///dev/zero")
    assert not [path for path in cache.rglob("*") if path.is_file()]
