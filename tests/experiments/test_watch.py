"""The page on runs: what it is handed, on this machine alone, and what a browser makes of it."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from envs.errors import ConfigurationError
from experiments.watch import main
from experiments.watching.runs import COLUMNS, find_runs, run_table
from experiments.watching.server import WatchServer


def row(number: int, **more: float) -> dict[str, float | None]:
    values: dict[str, float | None] = dict.fromkeys(COLUMNS, 1.0)
    return {**values, "time_s": 0.5 * number, "power_budget_w": None, "gpu0_power_w": 1.0,
            "gpu1_power_w": 1.0, **more}  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished run of 40 intervals, and one that is still going on."""
    done = tmp_path / "runs" / "pals" / "seed_0"
    done.mkdir(parents=True)
    rows = [row(n, throughput_tok_s=100.0 * n, energy_gpu_j=2.0) for n in range(1, 41)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), done / "intervals.parquet")
    (done / "summary.json").write_text(json.dumps({"controller": "pals", "seed": 0}))
    going = tmp_path / "runs" / "static" / "seed_0"
    going.mkdir(parents=True)
    lines = [json.dumps(row(n)) for n in range(1, 11)]
    (going / "intervals.jsonl").write_text("\n".join(lines) + '\n{"time_s": 5.5, "pow')
    return tmp_path


@pytest.fixture
def server(runs: Path) -> Iterator[WatchServer]:
    server = WatchServer(runs)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.close()
    thread.join()


def get(server: WatchServer, path: str) -> Any:
    with urllib.request.urlopen(server.url + path) as answer:
        return json.loads(answer.read())


def test_runs_are_found_and_read(runs: Path) -> None:
    going, done = run_table(runs / "runs/static/seed_0"), run_table(runs / "runs/pals/seed_0")
    assert [folder.parent.name for folder in find_runs(runs)] == ["pals", "static"]
    assert done["finished"]
    assert not going["finished"]
    assert going["columns"]["time_s"] == [0.5 * n for n in range(1, 11)]  # no half line
    assert done["gpus"] == 2
    assert done["columns"]["power_budget_w"] == [None] * 40
    assert done["metrics"]["controller"] == "pals"


def test_the_records_of_a_service_are_read(tmp_path: Path) -> None:
    for day in (1, 2):
        line = json.dumps(row(1, power_w=float(day)))
        (tmp_path / f"intervals-2026-01-0{day}.jsonl").write_text(line + "\n")
    assert run_table(*find_runs(tmp_path))["columns"]["power_w"] == [2.0]


@pytest.mark.parametrize(
    ("file", "content"),
    [("summary.json", b"{"), ("summary.json", b"[]"), ("summary.json", b"\xff"),
     ("intervals.parquet", b"PAR1")],
)  # fmt: skip
def test_what_is_damaged_is_named_on_the_page(
    server: WatchServer, runs: Path, file: str, content: bytes
) -> None:
    (runs / "runs/pals/seed_0" / file).write_bytes(content)
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, "run?name=runs/pals/seed_0")
    assert caught.value.code == 500
    assert f"{file}: is damaged" in caught.value.read().decode()
    assert get(server, "run?name=runs/static/seed_0")["gpus"] == 2


def test_what_is_no_number_is_none(runs: Path) -> None:
    done, going = runs / "runs/pals/seed_0", runs / "runs/static/seed_0"
    (done / "summary.json").write_text('{"tokens_per_joule": NaN, "seed": Infinity}')
    metrics = run_table(done)["metrics"]
    assert metrics["tokens_per_joule"] is metrics["seed"] is None
    (going / "intervals.jsonl").write_text('1\n{"time_s": 1.0}\n[]\n')
    assert run_table(going)["columns"]["time_s"] == [1.0]


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(ConfigurationError, match="no run in it"):
        WatchServer(tmp_path)
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--no-browser"])
    assert "no run in it" in capsys.readouterr().err


def test_the_page_and_its_tables_are_served(server: WatchServer) -> None:
    assert get(server, "runs") == ["runs/pals/seed_0", "runs/static/seed_0"]
    table = get(server, "run?name=runs/pals/seed_0")
    assert table["columns"]["throughput_tok_s"][-1] == 4000.0
    with urllib.request.urlopen(server.url) as answer:
        page = answer.read().decode()
    assert "<title>pals-gym" in page
    assert "http://" not in page  # nothing comes from elsewhere
    assert "https://" not in page
    assert server.answered == 2


@pytest.mark.parametrize("name", ["../../etc", "runs", "/etc/passwd", ""])
def test_nothing_else_is_read(server: WatchServer, name: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(server, f"run?name={name}")


def test_it_is_for_this_machine_alone(server: WatchServer) -> None:
    host, port = server.url.removeprefix("http://").rstrip("/").split(":")
    assert host == "127.0.0.1"
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", "/runs", headers={"Host": "elsewhere.example"})
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.long
def test_a_browser_shows_two_runs_at_a_time(server: WatchServer, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium: apt-get install chromium")
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"{server.url}?t=9"],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    dom = done.stdout
    assert "pals-gym: 2 runs" in dom, done.stderr
    assert dom.count("<canvas") == 4
    assert "<td>tokens/s</td><td>1000</td><td>1</td>" in dom  # A and B at the tenth interval
    assert "<td>time, s</td><td>5.0</td><td>5.0</td>" in dom
    assert "<td>tokens/J until then</td><td>1.000</td><td>2.000</td>" in dom
    assert ">running<" in dom


@pytest.mark.long
def test_a_browser_begins_with_two_controllers_on_the_same_arrivals(
    runs: Path, server: WatchServer, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium: apt-get install chromium")
    shutil.copytree(runs / "runs" / "pals" / "seed_0", runs / "runs" / "pals" / "seed_1")
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", server.url],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert "pals-gym: 3 runs" in done.stdout, done.stderr
    assert '<th class="a">runs/pals/seed_0</th>' in done.stdout
    assert '<th class="b">runs/static/seed_0</th>' in done.stdout


@pytest.mark.parametrize("port", [-1, 65_536, 10**20])
def test_a_port_that_is_none_is_named(
    port: int, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(runs), "--port", str(port), "--no-browser"])
    assert f"port: must be 0 (a free one) to 65535, got {port}" in capsys.readouterr().err
