"""Inputs that failed once, kept beside the repository: published models, and traces."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest

from envs import catalog
from envs.errors import WorkloadError
from envs.workloads.azure_conv import AzureConv
from envs.workloads.mooncake import Mooncake
from envs.workloads.recording import Recording

CASES = (Path(__file__).resolve().parents[3] / "shared" / "cases").resolve()
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases")

OF_ITS_OWN = {
    "az_2024_mixedfrac.csv", "az_dup_times.csv", "az_one_row.csv", "az_sci.csv", "az_utc_word.csv",
}  # fmt: skip
"""Other requests than those of the plain file."""
ROUNDED = {"az_all_same.csv", "az_excel_minutes.csv", "az_hour_excelminutes.csv"}
"""Times that were cut to minutes: read, with a warning."""
TOO_MANY_IDS = "hash_ids are 2 for a prompt of 215 tokens, which has 1 part"
"""What is said of the cases in Mooncake's form, each of whose requests got two ``hash_ids``."""
REFUSED = {
    "az_empty_field.csv", "az_headeronly.csv", "az_nan.csv", "az_noheader.csv", "az_nul.csv",
    "az_unsorted.csv", "az_zero_gen.csv", "burstgpt.csv", "empty.csv", "mc_delay.jsonl",
    "mc_nan.jsonl", "mc_null.jsonl", "mc_truncated.jsonl", "mc_zero_out.jsonl", "sharegpt.json",
}  # fmt: skip


def expectations() -> list[dict[str, str]]:
    if not CASES.is_dir():
        return []
    with (CASES / "models" / "expected.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("expected", expectations(), ids=lambda row: row["model"])
def test_a_published_model_is_read_right(expected: dict[str, str]) -> None:
    file = CASES / "models" / expected["model"] / "config.json"
    model = catalog.build("model", {"base": "huggingface", "path": str(file)})
    total = float(expected["total_params_billion"]) * 1e9
    assert model.total_params == pytest.approx(total, rel=0.045)  # some count no embeddings
    cached = float(expected["kv_bytes_per_token_bf16"])
    assert model.kv_bytes_per_token == pytest.approx(cached, rel=0.001)
    active = float(expected["active_params_billion"]) * 1e9
    spread = 2.0 * model.vocab * model.hidden + 0.5e9  # embeddings may count; rounded to billions
    assert active - spread <= model.active_params <= 1.03 * active + spread


def read(file: Path) -> Recording:
    return (Mooncake if file.name.startswith("mc_") else AzureConv).read(file)


def test_every_trace_is_read_right_or_refused_with_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = {ending: read(CASES / "traces" / name) for ending, name in
             (("az", "az_plain.csv"), ("mc", "mc_plain.jsonl"))}  # fmt: skip
    files = sorted((CASES / "traces").iterdir())
    assert {file.name for file in files} > REFUSED | ROUNDED | OF_ITS_OWN
    for file in files:
        caplog.clear()
        if file.name in REFUSED:
            with pytest.raises(WorkloadError, match=str(file)):
                read(file)
            continue
        with caplog.at_level(logging.WARNING):
            found = read(file)
        told = [text for text in caplog.messages if TOO_MANY_IDS not in text]
        assert bool(told) == (file.name in ROUNDED), file.name
        if file.name not in ROUNDED | OF_ITS_OWN:
            same = plain["mc" if file.name.startswith("mc_") else "az"]
            assert found.prompt_tokens.tolist() == same.prompt_tokens.tolist(), file.name
            assert found.output_tokens.tolist() == same.output_tokens.tolist(), file.name
            assert found.time_s == pytest.approx(same.time_s, abs=1e-3), file.name
