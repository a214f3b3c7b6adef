"""The read-only measurement of a GPU, with a fake vLLM server and fake NVML."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from live_support import FakeGpus, FakeVllm, free_port

from experiments.measure_gpu import __main__ as program
from experiments.measure_gpu import summary
from experiments.measure_gpu.client import Request
from experiments.measure_gpu.dummy_model import CONFIGS
from experiments.measure_gpu.phases import PHASES, Bench, Plan
from experiments.measure_gpu.telemetry import COLUMNS, Gpu

PACKAGE = Path(program.__file__).parent
SMALL = {
    "batches": [1, 4], "decode_s": 0.8, "contexts": [[2, 200]], "prompts": [16, 64],
    "prefill_s": 0.5, "saturated_prompts": [[16, 4]], "step_batch": 4, "steps": 1, "step_s": 0.5,
    "mixture_prompts": [8, 32], "mixture_outputs": [4, 16], "saturation_in_flight": 8,
    "saturation_s": 1.0, "poisson_s": 1.0, "limits": [6, 2], "limit_s": 0.5, "idle_s": 0.3,
    "turn_tokens": 10, "turn_batch": 2, "turns": 1,
}  # fmt: skip


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def telemetry(rows: list[dict]) -> summary.Telemetry:
    return summary.Telemetry([{**dict.fromkeys(COLUMNS, ""), **row} for row in rows])


def sensors(seconds: float, watts) -> list[dict]:
    """Samples at 10 Hz of a GPU that draws ``watts(t)``, with a counter that moves every row."""
    rows, joules = [], 0.0
    for tick in range(round(seconds * 10)):
        time = tick / 10
        rows.append(
            {
                "time_s": str(time), "power_instant_w": str(watts(time)),
                "power_average_w": str(watts(time)), "energy_j": str(joules),
                "sm_clock_mhz": "1980", "reasons": "0" if time < 1 else "4",
            }
        )  # fmt: skip
        joules += watts(time) / 10
    return rows


def test_every_phase_is_measured_and_nothing_is_set(
    tmp_path: Path, fake_gpus: FakeGpus, fake_vllm: FakeVllm
) -> None:
    fake_gpus.set({"instant": 300_000})
    other = FakeVllm.anywhere("--no-plugin")
    try:
        program.main(
            [
                "--url", fake_vllm.url, "--other-url", other.url, "--output", str(tmp_path / "out"),
                "--plan", json.dumps(SMALL), "--budget", "900", "--note", "a test",
            ]
        )  # fmt: skip
    finally:
        other.stop()
    out = tmp_path / "out"
    with (out / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"decode", "prefill", "load_step", "saturation", "poisson", "limits", "compare"} <= {
        row["phase"] for row in rows
    }
    assert all(row["errors"] == "0" for row in rows)
    decode = [row for row in rows if row["phase"] == "decode"]
    assert [row["batch"] for row in decode] == ["1", "4", "2"]
    # A window in which a busy machine took no sample tells no power.
    assert {row["power_w"] for row in rows} - {""} == {"300.0"}
    assert {row["plugin"] for row in rows if row["phase"] == "compare"} == {"True", "False"}
    requests = lines(out / "requests.jsonl")
    assert all(row["received_tokens"] == row["output_tokens"] for row in requests)
    assert {row["limit"] for row in lines(out / "limits.jsonl")} == {6, 2}
    assert fake_vllm.limit()["max_num_seqs"] == 8  # put back
    assert fake_gpus.state["log"] == []  # nothing was set
    board = json.loads((out / "board.json").read_text())
    assert board["power_limit_mw"] == 400_000
    assert board["power_limit_min_max_mw"] == [100_000, 400_000]
    assert "ecc" in board["errors"]  # a sensor that is missing is told, and no more
    assert "power_instant_w" in (out / "COLUMNS.md").read_text()
    assert lines(out / "run.jsonl")[0]["vllm"] == "0.32.0"


def test_it_keeps_to_its_budget(tmp_path: Path, fake_vllm: FakeVllm) -> None:
    program.main(
        [
            "--url", fake_vllm.url, "--output", str(tmp_path), "--budget", "0.5",
            "--telemetry", "off", "--plan", json.dumps(SMALL), "--phases", "decode", "poisson",
        ]
    )  # fmt: skip
    skipped = lines(tmp_path / "windows.jsonl")
    assert {row["phase"] for row in skipped} == {"skipped"}
    assert [row["batch"] for row in skipped] == [1, 4, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--plan", "{"), ("--plan", "[]"), ("--plan", '{"no_such": 1}'), ("--plan", '{"steps": 0}'),
        ("--plan", '{"steps": 1.5}'), ("--plan", '{"step_s": NaN}'), ("--plan", '{"batches": 4}'),
        ("--plan", '{"batches": ["4"]}'), ("--plan", '{"contexts": [[1e300, 2]]}'),
        ("--budget", "nan"), ("--budget", "-1"), ("--budget", "inf"), ("--period", "0"),
        ("--url", "http://me:pa55word@127.0.0.1:8000"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_message(
    wrong: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        program.main(["--url", "http://127.0.0.1:9", "--output", str(tmp_path / "out"), *wrong])
    err = capsys.readouterr().err
    assert wrong[0] in err.splitlines()[-1]
    assert "pa55word" not in err
    assert not (tmp_path / "out").exists()


def test_a_server_that_is_not_there_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SystemExit):
        program.main(["--url", url, "--output", str(tmp_path), "--telemetry", "off"])
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: Cannot connect")


@pytest.mark.parametrize("url", ["http://10.0.0.1:8000", "http://127.0.0.1.example.org"])
def test_only_this_machine_is_measured(url: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        program.parse(["--url", url, "--output", str(tmp_path)])


def test_no_source_can_set_a_gpu() -> None:
    for file in PACKAGE.iterdir():
        if file.suffix in (".py", ".sh"):
            text = file.read_text()
            for word in ("nvmlDeviceSet", "nvmlDeviceReset", "nvidia-smi", "envs.live.devices"):
                assert word not in text, f"{file.name}: {word}"


def test_it_needs_nothing_of_this_project() -> None:
    """It must run in an environment made for vLLM."""
    foreign = {"envs", "baselines", "agents", "numpy", "pandas", "torch", "hydra"}
    for file in PACKAGE.glob("*.py"):
        words = {
            line.split()[1].split(".")[0]
            for line in file.read_text().splitlines()
            if line.lstrip().startswith(("import ", "from "))
        }
        assert not words & foreign, file.name


def test_a_sensor_that_comes_back_is_read_again(fake_gpus: FakeGpus) -> None:
    fake_gpus.set({"no_energy": True})
    gpu = Gpu(0)
    energy = list(COLUMNS).index("energy_j")
    assert gpu.read(slow=False)[energy] is None
    fake_gpus.change(0, no_energy=False)
    assert gpu.read(slow=True)[energy] == "1000.000"
    assert len(gpu.read(slow=True)) == len(COLUMNS)
    gpu.close()


def test_a_lost_gpu_ends_the_sampling(fake_gpus: FakeGpus) -> None:
    fake_gpus.set({})
    gpu = Gpu(0)
    fake_gpus.change(0, lost=True)
    with pytest.raises(sys.modules["pynvml"].NVMLError_GpuIsLost):
        gpu.read(slow=False)


def test_power_of_a_stretch() -> None:
    row = summary.power_of(telemetry(sensors(6.0, lambda time: 100.0 + 50.0 * time)), 2.0, 5.0)
    assert row["power_w"] == pytest.approx(272.5)
    assert row["energy_counter_w"] == pytest.approx(272.5, abs=3.0)
    assert row["counter_over_samples"] == pytest.approx(1.0, abs=0.02)
    assert row["reasons"] == 4
    assert row["gpu_utilisation_pct"] is None


def test_rates_are_those_of_one_server_between_its_own_polls() -> None:
    polls = [
        {
            "url": url, "time_s": float(second), "limit_time_s": second + 0.1,
            "limit_steps": 100 * second, "vllm:generation_tokens_total": rate * second,
            "vllm:num_requests_running": 8.0,
            "vllm:inter_token_latency_seconds_sum": 8.0 * second,
            "vllm:inter_token_latency_seconds_count": rate * second,
        }
        for second in range(6)
        for url, rate in (("a", 800), ("b", 400))
    ]  # fmt: skip
    del polls[2]["limit_steps"]  # a poll of the plug-in that failed
    row = summary.served(polls, "a", 0.5, 4.5)
    assert row["output_tok_s"] == pytest.approx(800.0)
    assert row["server_itl_ms"] == pytest.approx(10.0)
    assert row["step_ms"] == pytest.approx(10.0)
    assert row["running"] == 8.0
    assert summary.served(polls, "c", 0.5, 4.5) == {}


def test_skipped_windows_are_no_rows() -> None:
    windows = [
        {"phase": "skipped", "of": "decode"},
        {"phase": "decode", "begin_s": 0.0, "end_s": 9.0, "steady_begin_s": 1.0,
         "steady_end_s": 4.0, "batch": 3, "errors": ["HTTP 500"]},
    ]  # fmt: skip
    (row,) = summary.rows_of(windows, [], telemetry(sensors(6.0, lambda _: 200.0)))
    assert row["batch"] == 3
    assert row["errors"] == 1
    assert row["seconds"] == pytest.approx(3.0 - summary.SETTLE_S)
    assert row["power_w"] == pytest.approx(200.0)


def test_output_tokens_follow_the_step_times_seen() -> None:
    bench = Bench(server=None, plan=Plan(), write=print, end_s=0.0)  # type: ignore[arg-type]
    assert bench.output_tokens(1, 5.0) == 400  # 10 ms, and a quarter more, until one is known
    bench.learn({"batch": 8, "output_tokens": 100, "steady_begin_s": 0.0, "steady_end_s": 2.0})
    assert bench.output_tokens(8, 5.0) == 250
    assert bench.output_tokens(16, 5.0) == 200
    assert bench.output_tokens(8, 1e6) == bench.plan.max_output_tokens


def test_short_answers_are_errors(fake_vllm: FakeVllm, tmp_path: Path) -> None:
    """A server that refuses leaves errors in the rows, not numbers."""
    fake_vllm.fault(refuse=503)
    program.main(
        [
            "--url", fake_vllm.url, "--output", str(tmp_path), "--budget", "900",
            "--telemetry", "off", "--plan", json.dumps(SMALL), "--phases", "decode",
        ]
    )  # fmt: skip
    rows = [row for row in lines(tmp_path / "windows.jsonl") if row["phase"] == "decode"]
    assert rows
    assert all("HTTP 503" in row["errors"][0] for row in rows)
    assert all("steady_end_s" not in row for row in rows)


def test_the_default_plan_names_the_asked_sizes() -> None:
    plan = Plan()
    assert plan.batches == (1, 2, 4, 8, 16, 32, 64, 128, 256)
    assert plan.prompts[0] == 64
    assert plan.prompts[-1] == 16384
    assert list(PHASES)[-1] == "idle_after"
    assert Request(prompt_tokens=1, output_tokens=1).ttft_s is None


def parameters(config: dict) -> float:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim", hidden // heads)
    attention = hidden * head * 2 * (heads + config["num_key_value_heads"])
    expert = 3 * hidden * config.get("moe_intermediate_size", config["intermediate_size"])
    experts = config.get("num_experts", 1)
    layers = config["num_hidden_layers"] * (attention + experts * expert)
    return layers + 2 * config["vocab_size"] * hidden


@pytest.mark.parametrize(("name", "billions"), [("qwen3-30b-a3b", 30.5), ("llama-3.1-8b", 8.03)])
def test_dummy_models_have_their_published_size(name: str, billions: float) -> None:
    assert parameters(CONFIGS[name]) == pytest.approx(1e9 * billions, rel=0.005)
