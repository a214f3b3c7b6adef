"""Runs of ``experiments.measure_gpu`` as measurements: columns, units, and what is wrong where."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.errors import WorkloadError
from experiments.calibration.data.readers import gpu_run, read_folder
from experiments.measure_gpu.summary import COLUMNS

ROOT = Path(__file__).resolve().parents[5]
BOARD = {"name": "NVIDIA H100 80GB HBM3", "power_limit_enforced_mw": 650000}
PLAN = {"mixture_prompts": [64, 512], "mixture_outputs": [32, 224]}
COMMON = {"energy_counter_w": 500.0, "sm_clock_mhz": 990.0, "gpu_temperature_c": 61.5}
DECODE = {
    "phase": "decode", "batch": 4, "prompt_tokens": 128, "output_tokens": 600,
    "output_tok_s": 472.0, "prompt_tok_s": 0.0, "server_itl_ms": 8.5,
}  # fmt: skip
PREFILL = {"phase": "prefill", "prompt_tokens": 16384, "in_flight": 1, "ttft_p50_ms": 433.0}
MANY = {"phase": "prefill", "prompt_tokens": 128, "in_flight": 128, "prompt_tok_s": 60000.0}
POISSON = {
    "phase": "poisson", "running": 144.0, "output_tok_s": 3500.0, "prompt_tok_s": 8000.0,
    "server_itl_ms": 41.0, "server_ttft_ms": 142.0, "begin_s": 101.0, "seconds": 2.0,
}  # fmt: skip
IDLE = {"phase": "idle_loaded"}
REQUESTS = [
    {"phase": "poisson", "prompt_tokens": 300, "output_tokens": 90, "due_s": 102.0,
     "sent_s": 102.1, "first_s": 102.4},
    {"phase": "decode", "prompt_tokens": 1, "output_tokens": 1, "sent_s": 1.0},
    {"phase": "poisson", "prompt_tokens": 200, "output_tokens": 60, "due_s": 100.0,
     "sent_s": 100.0, "first_s": 109.0},
]  # fmt: skip

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a run's folder and returns its ``rows.csv``."""

    def written(*rows: dict[str, Any], name: str = "qwen3_30b_a3b_again", **board: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "board.json").write_text(json.dumps(BOARD | board))
        (folder / "run.jsonl").write_text(json.dumps({"plan": PLAN}) + "\n")
        with (folder / "rows.csv").open("w", newline="") as lines:
            table = csv.DictWriter(lines, list(COLUMNS))
            table.writeheader()
            table.writerows([COMMON | row for row in rows])
        return folder / "rows.csv"

    return written


def test_a_decode_row_is_one_step_at_its_mean_context_in_si_units(write: Write) -> None:
    (m,) = gpu_run.read(write(DECODE)).measurements
    assert (m.gpu.name, m.model.name, m.cap_w) == ("h100_sxm", "qwen3_30b_a3b", 650.0)
    assert m.itl_s == pytest.approx(8.5e-3)
    assert m.tpot_s == pytest.approx(4 / 472.0)
    assert (m.power_w, m.clock_fraction, m.temperature_c) == (500.0, 0.5, 61.5)
    (step,) = m.steps
    assert (step.decode_seqs, step.context_tokens, step.prefill_tokens) == (4.0, 4 * 428.0, 0.0)
    assert not m.apart


def test_a_prompt_longer_than_a_step_is_computed_in_chunks(write: Write) -> None:
    (m,) = gpu_run.read(write(PREFILL)).measurements
    assert m.tpot_s == pytest.approx(0.433)
    assert m.throughput_tok_s is None, "with one at a time it holds the client's pauses"
    assert [step.prefill_tokens for step in m.steps] == [8192.0, 8192.0]
    pairs = sum(step.weight * step.prefill_pairs for step in m.steps)
    assert pairs == pytest.approx(16384 * 16385 / 2)


def test_many_prompts_share_a_step(write: Write) -> None:
    (m,) = gpu_run.read(write(MANY)).measurements
    assert m.tpot_s == pytest.approx(128 * 128 / 60000.0)
    (step,) = m.steps
    assert (step.prefill_tokens, step.weight) == (8192.0, 2.0)
    assert step.prefill_pairs == pytest.approx(64 * 128 * 129 / 2)
    assert m.batch * m.counted_tokens / m.tpot_s == pytest.approx(60000.0)


def test_mixed_steps_hold_the_measured_ratio_of_prompt_to_output_tokens(write: Write) -> None:
    (m,) = gpu_run.read(write(POISSON)).measurements
    prompt = sum(step.weight * step.prefill_tokens for step in m.steps)
    assert prompt / m.batch == pytest.approx(8000.0 / 3500.0, rel=1e-3)
    assert m.tpot_s == pytest.approx(144.0 / 3500.0)
    assert sum(step.weight for step in m.steps) == pytest.approx(1.0)


@pytest.mark.parametrize("packed", [False, True])
def test_the_requests_of_a_load_come_in_the_order_they_were_due(write: Write, packed: bool) -> None:
    file = write(POISSON)
    text = "".join(json.dumps(request) + "\n" for request in REQUESTS).encode()
    name = "requests.jsonl.gz" if packed else "requests.jsonl"
    (file.parent / name).write_bytes(gzip.compress(text) if packed else text)
    (load,) = gpu_run.read(file).loads
    assert load.requests.arrival_time_s.tolist() == [0.0, 2.0]
    assert load.requests.prompt_tokens.tolist() == [200, 300]
    assert (load.begin_s, load.end_s, load.in_flight) == (1.0, 3.0, None)
    assert load.ttft_p50_s == pytest.approx(0.4), "of those that came in the stretch only"
    assert (load.itl_s, load.ttft_mean_s) == pytest.approx((0.041, 0.142))


def test_idle_is_kept_beside_the_rows_and_other_phases_are_listed(write: Write) -> None:
    data = gpu_run.read(write(IDLE, {"phase": "compare"}, {"phase": "new"}))
    assert [(idle.power_w, idle.temperature_c) for idle in data.idle] == [(500.0, 61.5)]
    assert [(s.row, s.reason) for s in data.skipped] == [
        (3, "phase 'compare': two servers took turns"),
        (4, "phase 'new': not known"),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (DECODE | {"server_itl_ms": "fast"}, "server_itl_ms is 'fast'"),
        (DECODE | {"energy_counter_w": ""}, "energy_counter_w is None"),
        (PREFILL | {"prompt_tokens": 0}, "prompt_tokens is 0.0, not a number above 0"),
    ],
)
def test_a_broken_cell_is_listed_with_its_line(
    write: Write, row: dict[str, Any], reason: str
) -> None:
    data = gpu_run.read(write(DECODE, row))
    assert len(data.measurements) == 1
    (skipped,) = data.skipped
    assert skipped.row == 3
    assert reason in skipped.reason
    assert skipped.model == "qwen3_30b_a3b_again"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "NVIDIA Unheard"}, "'NVIDIA Unheard'"),
        ({"folder": "unheard_7b"}, "'unheard_7b' begins with no model's name"),
        ({"folder": "llama31_8bits"}, "begins with no model's name"),
    ],
)
def test_without_a_specification_every_row_is_listed(
    write: Write, change: dict[str, str], reason: str
) -> None:
    file = write(DECODE, IDLE)
    if "folder" in change:
        file = file.parent.rename(file.parents[1] / change["folder"]) / "rows.csv"
    else:
        (file.parent / "board.json").write_text(json.dumps(BOARD | change))
    data = gpu_run.read(file)
    assert not data.measurements
    assert not data.idle
    assert [skipped.row for skipped in data.skipped] == [2, 3]
    assert all(reason in skipped.reason for skipped in data.skipped)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.csv", "phase,batch\ndecode,1\n", r"rows\.csv:1: no column prompt_tokens"),
        ("board.json", '{"name": "x"}', r"board\.json: power_limit_enforced_mw is None"),
        ("board.json", "{", r"board\.json: cannot read it as JSON"),
        ("run.jsonl", '{"note": 1}\n{"plan": {}}\n', r"run\.jsonl:2: plan\.mixture_prompts"),
        ("run.jsonl", "[]\n", r"run\.jsonl:1: not a JSON object"),
        ("requests.jsonl", '{"phase": "decode"}\n{"phase', r"requests\.jsonl:2: cannot read"),
        (
            "requests.jsonl",
            '\n{"phase": "poisson", "due_s": 3.0, "prompt_tokens": 5}\n',
            r"requests\.jsonl:2: needs due_s or sent_s",
        ),
    ],
)
def test_a_broken_file_is_an_error_that_names_it(
    write: Write, name: str, text: str, message: str
) -> None:
    file = write(POISSON)
    (file.parent / name).write_text(text)
    with pytest.raises(WorkloadError, match=message):
        gpu_run.read(file)


def test_a_folder_of_runs_and_a_run_alone_are_found(write: Write, tmp_path: Path) -> None:
    file = write(DECODE)
    write(DECODE, name="llama31_8b")
    other = tmp_path / "other" / "rows.csv"
    other.parent.mkdir()
    other.write_text("not,a,run\n")
    data, files = read_folder(tmp_path)
    assert [found.parent.name for found in files] == ["llama31_8b", "qwen3_30b_a3b_again"]
    assert len(data.measurements) == 2
    assert read_folder(file.parent)[1] == [file]


def test_no_row_of_the_measurements_in_this_repository_is_dropped() -> None:
    data, files = read_folder(ROOT / "docs" / "measurements" / "h100")
    assert len(files) == 3
    lines = sum(len(file.read_text().splitlines()) - 1 for file in files)
    assert len(data.measurements) + len(data.idle) + len(data.skipped) == lines
    assert all(skipped.reason.startswith("phase ") for skipped in data.skipped)
    assert {m.cap_w for m in data.measurements} == {700.0}
    assert len(data.loads) == 3
