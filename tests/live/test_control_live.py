"""A real server under control: telemetry, throttle, controllers, an independent client."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from live_help import PYTHON, ROOT, UniformLengths, attached, live, rate, requests, run, total

from envs.knobs import Knobs
from envs.latency import percentile
from envs.live import metrics
from envs.live.batch_limit import BatchLimit
from envs.live.process import VllmProcess
from envs.telemetry import NUMERIC_FIELDS

pytestmark = pytest.mark.live


def test_the_servers_metrics_and_our_own_clocks_agree(vllm: VllmProcess) -> None:
    with live(attached(vllm), requests(rate=4.0)) as server:
        server.reset(0)
        before = metrics.fetch(server._session.host.client)
        rows, received = [], 0.0
        for _ in range(40):
            rows.append(server.advance(0.5))
            received += server.extras["client_output_tokens"]
        added = metrics.fetch(server._session.host.client).since(before)
        record = server.latency()
        assert all(math.isfinite(getattr(row, name)) for row in rows for name in NUMERIC_FIELDS)
        assert total(rows, "output_tokens") == pytest.approx(received, rel=0.03, abs=40)
        assert total(rows, "finished") > 40
        ttft, tpot = percentile(record.ttft, 50), percentile(record.tpot, 50)
        assert ttft is not None
        assert tpot is not None
        # The server's buckets are coarse and its TTFT leaves the network and parsing out.
        assert added.histograms["ttft"].percentile(50) == pytest.approx(ttft, rel=0.5, abs=0.05)
        assert added.histograms["tpot"].percentile(50) == pytest.approx(tpot, rel=0.4, abs=0.01)
        assert added.histograms["ttft"].samples == pytest.approx(record.ttft.sum(), abs=15)
        assert rows[-1].power_source == "modelled"
        mean_w = total(rows, "energy_gpu_j") / total(rows, "duration_s")
        assert 60.0 < mean_w < 420.0


def test_the_throttle_is_felt_in_tokens_per_second(vllm: VllmProcess) -> None:
    with live(attached(vllm), requests(concurrency=16)) as server:
        server.reset(0)
        run(server, 3.0)
        speeds, powers, binding = {}, {}, {}
        for cap in (400.0, 230.0, 128.0, 400.0):
            server.apply(Knobs(cap, 32))
            run(server, 2.0)
            rows = run(server, 6.0)
            # Another process can only take speed away: the better of two counts.
            speeds[cap] = max(rate(rows), speeds.get(cap, 0.0))
            powers[cap] = rate(rows, "energy_gpu_j")
            binding[cap] = float(np.mean([row.cap_binding for row in rows]))
        # On an idle machine about a quarter; a busy one gives the worker less than its core.
        assert speeds[128.0] < 0.7 * speeds[400.0]
        assert speeds[128.0] < speeds[230.0] < 1.15 * speeds[400.0]
        assert powers[128.0] < 1.05 * 128.0
        assert powers[128.0] < powers[230.0] < 1.05 * 230.0
        assert binding[128.0] > 0.7
        assert binding[400.0] < 0.05


@pytest.mark.long
def test_a_cap_above_the_demand_changes_nothing(vllm: VllmProcess) -> None:
    """The null control: light traffic needs less than 350 W allow.

    The quota holds within periods of 10 ms, so it binds while a request is computed; what must
    not happen is that work adds up, or that less is served.
    """
    with live(attached(vllm), requests(rate=0.7)) as server:
        finished, binding = {}, {}
        for cap in (400.0, 350.0):
            server.reset(0)
            server.apply(Knobs(cap, 32))
            rows = run(server, 12.0)
            finished[cap] = total(rows, "finished")
            binding[cap] = float(np.mean([row.cap_binding for row in rows[2:]]))
            assert rows[-1].waiting == 0
        assert finished[400.0] >= 3
        assert finished[350.0] == pytest.approx(finished[400.0], abs=2)
        assert binding[400.0] < 0.05
        assert binding[350.0] < 0.7  # under full load it is above 0.9


@pytest.mark.long
def test_a_random_policy_for_two_minutes(vllm: VllmProcess) -> None:
    rng = np.random.default_rng(0)
    with live(attached(vllm), requests(rate=4.0)) as server:
        server.set_warmup(10.0)
        server.reset(0)
        rows, decisions, overruns = [], [], []
        for _ in range(240):
            server.apply(Knobs(float(rng.uniform(200, 400)), int(rng.integers(8, 33))))
            rows.append(server.advance(0.5))
            decisions.append(server.extras["decision_s"])
            overruns.append(server.extras["interval_overrun_s"])
        assert total(rows, "finished") > 200
        assert total(rows, "duration_s") == pytest.approx(120.0, rel=0.05)
        assert float(np.percentile(decisions, 99)) < 0.005
        assert float(np.median(overruns)) < 0.25
        assert server.events == []


def _experiment(*arguments: str, timeout_s: float = 400.0) -> None:
    subprocess.run([sys.executable, "-m", *arguments], check=True, cwd=ROOT, timeout=timeout_s)


@pytest.mark.long
def test_pals_for_two_minutes_from_the_command_line(
    vllm: VllmProcess, limit: BatchLimit, models: Path, tmp_path: Path
) -> None:
    import pandas

    common = [
        "server=vllm_cpu", f"server.url={vllm.url}", f"server.server_pid={vllm.pid}",
        "server.control=true", "server.send_load=true",
        "server.call_timeout_s=5", "server.power_caps_w=[150,250,400]",
        "action.max_num_seqs=[8,16,32]", "workload.prompt_scale=0.2",
        "workload.output_scale=0.3",
    ]  # fmt: skip
    profile = tmp_path / "profile"
    _experiment(
        "experiments.profile", *common, "profile.settle_s=2", "profile.measure_s=4",
        f"hydra.run.dir={profile}",
    )  # fmt: skip
    out = tmp_path / "run"
    _experiment(
        "experiments.run", *common, "controller=pals", f"profile.path={profile}/profile.json",
        "workload.load=0.5", "duration=120", "objective.qos.warmup_s=10", f"hydra.run.dir={out}",
    )  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    assert summary["power_source"] == "modelled"
    assert summary["requests_finished"] > 50
    assert summary["server"]["launched"] is False
    assert summary["recoveries"] == []
    table = pandas.read_parquet(out / "intervals.parquet")
    assert len(table) == 240
    assert table["decision_s"].quantile(0.5) < 0.01
    assert table["requested_power_cap_w"].nunique() >= 1
    assert limit.read()["max_num_seqs"] == 32
    _compare_with_the_simulator(common, profile, models, tmp_path / "transfer")


def _compare_with_the_simulator(common: list[str], profile: Path, models: Path, out: Path) -> None:
    """The same controllers, live and on the simulator fitted to the profile just made."""
    _experiment(
        "experiments.transfer", *common, f"model_path={models}/olmoe",
        f"profile.path={profile}/profile.json", "controllers=[static,governor]",
        "workload.load=0.5", "duration=20", "objective.qos.warmup_s=5", f"hydra.run.dir={out}",
    )  # fmt: skip
    transfer = json.loads((out / "transfer.json").read_text())
    assert transfer["power_source"] == "modelled"
    assert transfer["fit"]["rows"] == 9
    # A small sweep on a busy machine is noisy; the fit must still know the device's order.
    assert transfer["fit"]["throughput_error"] < 0.5
    gaps = {(row["controller"], row["metric"]): row["gap"] for row in transfer["rows"]}
    assert abs(gaps["static", "throughput_tok_s"]) < 0.5
    assert "live / simulated" in (out / "transfer.md").read_text()


def test_a_failed_run_keeps_its_record(vllm: VllmProcess, tmp_path: Path) -> None:
    """A live run without a profile says how to make one; it sweeps nothing by itself."""
    result = subprocess.run(
        [
            sys.executable, "-m", "experiments.run", "server=vllm_cpu",
            f"server.url={vllm.url}", f"server.server_pid={vllm.pid}",
        "server.control=true", "server.send_load=true", "controller=pals",
            "server.capacity_tok_s=400", f"hydra.run.dir={tmp_path}", "duration=5",
        ],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1
    assert "python -m experiments.profile" in result.stderr


PROMPT, OUTPUT, STREAMS = 100, 40, 4


@pytest.mark.long
def test_vllms_own_benchmark_agrees_with_our_load_generator(
    vllm: VllmProcess, models: Path, tmp_path: Path
) -> None:
    """Throughput, TTFT and TPOT of the same load, by two clients of one server at once.

    At once, because the speed of a machine that is shared may halve from one minute to the
    next; only intervals in which both have requests running count.
    """
    same = UniformLengths(prompt=PROMPT, output=OUTPUT, streams=STREAMS)
    both = []
    with live(attached(vllm), same) as server, ThreadPoolExecutor(1) as pool:
        server.reset(0)
        bench = pool.submit(_vllm_bench, vllm, models, tmp_path / "bench.json")
        while not bench.done():
            row = server.advance(0.5)
            if row.running > STREAMS + 1:
                both.append((row, server.extras["client_output_tokens"]))
        theirs = bench.result()
    both = both[2:-2]  # theirs begins and ends there
    assert len(both) >= 10
    ours = {
        "throughput": sum(tokens for _, tokens in both) / sum(row.duration_s for row, _ in both),
        "ttft_ms": 1e3 * float(np.median([row.ttft_p50_s for row, _ in both if row.ttft_samples])),
        "tpot_ms": 1e3 * float(np.median([row.tpot_p50_s for row, _ in both if row.tpot_samples])),
    }
    sys.stderr.write(f"\nload generator {ours}\nvllm bench     {theirs}\n")
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=0.25), name


def _vllm_bench(vllm: VllmProcess, models: Path, result: Path) -> dict[str, float]:
    code = (
        "import argparse, asyncio\n"
        "from vllm.benchmarks.serve import add_cli_args, main\n"
        "parser = argparse.ArgumentParser()\nadd_cli_args(parser)\nmain(parser.parse_args())\n"
    )
    subprocess.run(
        [
            str(PYTHON), "-c", code, "--backend", "openai", "--base-url", vllm.url,
            "--model", "tiny", "--tokenizer", str(models / "olmoe"),
            "--dataset-name", "random", "--random-input-len", str(PROMPT),
            "--random-output-len", str(OUTPUT), "--random-range-ratio", "0.5", "--ignore-eos",
            "--num-prompts", "200", "--max-concurrency", str(STREAMS), "--save-result",
            "--result-filename", str(result), "--percentile-metrics", "ttft,tpot",
            "--disable-tqdm",
        ],
        check=True, timeout=300,
    )  # fmt: skip
    answer = json.loads(result.read_text())
    return {
        "throughput": answer["output_throughput"],
        "ttft_ms": answer["median_ttft_ms"],
        "tpot_ms": answer["median_tpot_ms"],
    }
