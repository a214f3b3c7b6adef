"""Arrivals with the rates of a recorded day."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from envs.catalog import build
from envs.errors import ConfigurationError, WorkloadError
from envs.workloads.servegen import ServeGen
from envs.workloads.servegen_pool import read_lengths, read_rates
from experiments.fit_workload import PROBABILITIES, daily_swing, main, weighted_quantiles

RATES = [1.0, 4.0, 2.0, 1.0]
POOL = Path("servegen/deepseek-r1.tar.gz")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rates.csv"
    rows = [f"one,{600 * i},{rate}" for i, rate in enumerate(RATES)]
    rows += [f"two,{600 * i},7.0" for i in range(4)]
    path.write_text("\n".join(["pool,time_s,requests_per_s", *rows]) + "\n")
    return path


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    """A pool of two clients, who send 1 and 3 requests per second, half as many later."""
    folder = tmp_path / "pool"
    folder.mkdir()
    for name, rate, length in (("chunk-0", 1.0, 10), ("chunk-1", 3.0, 50)):
        rows = [f"{600 * i},{rate / (1 + i // 2)},1.0,Gamma,1,1" for i in range(4)]
        (folder / f"{name}-trace.csv").write_text("\n".join(rows))
        (folder / f"{name}-dataset.json").write_text(
            f'{{"0": {{"input_tokens": "{{{length}: 0.5, {length + 10}: 0.5}}", '
            f'"output_tokens": "{{7: 1.0}}"}}}}'
        )
    return folder


def arrivals(workload: ServeGen, rate: float, until_s: float) -> np.ndarray:
    stream = workload.stream(np.random.default_rng(3), rate)
    times = stream.take(200_000).arrival_time_s
    assert times[-1] > until_s
    return times[times < until_s]


def test_the_rate_follows_the_recording_and_begins_again(file: Path) -> None:
    workload = ServeGen(path=str(file), pool="one", lengths="gsm8k")
    assert workload.own_rate_per_s == pytest.approx(2.0)
    counts = np.histogram(arrivals(workload, 10.0, 4800.0), bins=8, range=(0.0, 4800.0))[0]
    expected = np.array([*RATES, *RATES]) * 600.0 * 10.0 / 2.0
    assert counts == pytest.approx(expected, rel=0.05)


def test_a_window_is_compressed(file: Path) -> None:
    workload = ServeGen(path=str(file), pool="one", start_s=600.0, end_s=1800.0, period_s=60.0)
    assert workload.own_rate_per_s == pytest.approx(3.0 * 1200.0 / 60.0)
    counts = np.histogram(arrivals(workload, 300.0, 60.0), bins=2, range=(0.0, 60.0))[0]
    assert counts[0] / counts[1] == pytest.approx(2.0, rel=0.1)


def test_clients_of_a_folder_or_archive_are_added_up(clients: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pool.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(clients, "pool")
    for path in (clients, archive):
        rates = read_rates(path, None)
        assert rates.rate_per_s.tolist() == [4.0, 4.0, 2.0, 2.0]
        assert rates.step_s == 600.0
        tokens, fractions = read_lengths(path, "input_tokens")
        assert tokens.tolist() == [10.0, 20.0, 50.0, 60.0]
        assert fractions == pytest.approx([0.125, 0.125, 0.375, 0.375])
    assert weighted_quantiles(tokens, fractions)[PROBABILITIES.index(0.5)] == 50


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("pool,time_s\none,0\n", "no column requests_per_s"),
        ("pool,time_s,requests_per_s\none,0,1\none,0,2\n", "trace:3: time_s 0 stands there twice"),
        ("pool,time_s,requests_per_s,n\none,0,1," + "x" * 200_000, "field larger"),
        ("requests_per_s,time_s,pool\n1,0\n2,0,two\n", "there are None, two"),
        ("pool,time_s,requests_per_s\none,0,x\n", "trace:2: requests_per_s"),
        ("pool,time_s,requests_per_s\none,0,nan\n", "trace:2: requests_per_s"),
        ("pool,time_s,requests_per_s\none,0,1\none,600,1\none,1300,1\n", "600 s apart"),
        ("pool,time_s,requests_per_s\none,0,0\none,600,0\n", "no requests arrive"),
        ("pool,time_s,requests_per_s\ntwo,0,1\nthree,600,1\n", "there are three, two"),
        ("", "no column"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(WorkloadError, match=named):
        assert ServeGen(path=str(path), pool="one").own_rate_per_s


def test_keys_are_checked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"workload\.period_s"):
        build("workload", {"base": "servegen", "path": str(file), "period_s": 1e-9})
    with pytest.raises(WorkloadError, match=r"workload\.path: no file at"):
        build("workload", {"base": "servegen", "path": "/no/where.csv"})
    monkeypatch.delenv("PALS_DATA", raising=False)
    with pytest.raises(WorkloadError, match="ServeGen"):
        assert build("workload", "servegen").own_rate_per_s


def test_the_default_day_swings_as_the_recorded_one(data_dir: Path) -> None:
    rates, step_s = read_rates(data_dir / POOL, None)
    assert rates.max() / rates.min() == pytest.approx(9.86, abs=0.01)
    assert rates.max() / rates.mean() == pytest.approx(2.655, abs=0.005)
    fitted = daily_swing(rates, step_s)
    assert fitted == pytest.approx(3.16, abs=0.01)
    assert build("workload", "diurnal").peak_to_trough == pytest.approx(fitted, rel=0.06)
    summed = read_rates(data_dir / "servegen/rate_10min.csv", "reason/deepseek-r1")
    assert summed.rate_per_s == pytest.approx(rates, abs=1e-3)


def test_the_lengths_are_those_of_the_pool(data_dir: Path, capsys: pytest.CaptureFixture) -> None:
    path = data_dir / POOL
    lengths = build("workload/lengths", "servegen_r1")
    for kind, distribution in (
        ("input_tokens", lengths.prompt),
        ("output_tokens", lengths.output),
    ):
        tokens, fractions = read_lengths(path, kind)
        assert distribution.tokens == weighted_quantiles(tokens, fractions)
        mean = float((tokens * fractions).sum())
        assert distribution.table().mean() == pytest.approx(mean, rel=0.06)
    assert main(["servegen", "--path", str(path)]) == 0
    assert "of a sine 3.16" in capsys.readouterr().out
