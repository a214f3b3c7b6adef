import re
from pathlib import Path

import pytest

from envs.catalog import build
from envs.errors import WorkloadError
from envs.workloads.azure_conv import AzureConv
from envs.workloads.mooncake import Mooncake

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
GOOD = "2023-11-16 18:15:46.6805900,374,44\n"

CSV = [
    ("TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,374\n", 1, "no column GeneratedTokens"),
    (HEADER + GOOD + "2023-11-16 18:15:47,374\n", 3, "2 values"),
    (HEADER + GOOD + "2023-11-16 18:15:47,374,1,1\n", 3, "4 values"),
    (HEADER + GOOD + "yesterday,374,44\n", 3, "yesterday"),
    (HEADER + GOOD + "2023-11-16 18:15:47,many,44\n", 3, "many"),
    (HEADER + GOOD + "2023-11-16 18:15:47,1.5,44\n", 3, "1.5"),
    (HEADER + GOOD + "2023-11-16 18:15:47,374,\n", 3, "''"),
    (HEADER + GOOD + "2023-11-16 18:15:47,-374,44\n", 3, "prompt length is -374"),
    (HEADER + GOOD + "2023-11-16 18:15:47,374,0\n", 3, "output length is 0"),
    (HEADER + GOOD + "2023-11-16 18:15:47,374,99999999999999999999\n", 3, "impossible"),
    (HEADER + GOOD + GOOD + "2023-11-16 18:15:46.5,374,44\n", 4, "time runs backwards"),
]
JSONL_GOOD = '{"timestamp": 3000, "input_length": 6758, "output_length": 500}\n'
JSONL = [
    (JSONL_GOOD + "{oops\n", 2, "not JSON"),
    (JSONL_GOOD.replace("{", '{"input_length": 1, '), 1, "the key 'input_length' stands twice"),
    (JSONL_GOOD + JSONL_GOOD.replace("{", '{"timestamp": 1, '), 2, "'timestamp' stands twice"),
    ("[\n" + JSONL_GOOD.replace("{", '{"timestamp": 1, ') + "]", 2, "'timestamp' stands twice"),
    (JSONL_GOOD + "[1, 2, 3]\n", 2, "not a JSON object"),
    (JSONL_GOOD + '{"timestamp": 1, "input_length": 5}\n', 2, "no key output_length"),
    (JSONL_GOOD + JSONL_GOOD.replace("3000", '"now"'), 2, "timestamp is 'now'"),
    (JSONL_GOOD + JSONL_GOOD.replace("3000", "[3]"), 2, "timestamp must be a number"),
    (JSONL_GOOD + JSONL_GOOD.replace("3000", "NaN"), 2, "timestamp must be finite"),
    (JSONL_GOOD + JSONL_GOOD.replace("6758", "6758.5"), 2, "input_length must be a whole"),
    (JSONL_GOOD + JSONL_GOOD.replace("500", "true"), 2, "output_length must be a whole"),
    (JSONL_GOOD + JSONL_GOOD.replace("500", "-5"), 2, "output length is -5"),
    (JSONL_GOOD + "\n" + JSONL_GOOD.replace("3000", "2999"), 3, "time runs backwards"),
]


@pytest.mark.parametrize(
    ("cls", "text", "line", "problem"),
    [(AzureConv, *case) for case in CSV] + [(Mooncake, *case) for case in JSONL],
)
def test_a_bad_row_is_named_by_file_and_line(
    cls: type[AzureConv] | type[Mooncake], text: str, line: int, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(WorkloadError, match=re.escape(problem)) as caught:
        cls.read(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("cls", "text"), [(AzureConv, ""), (AzureConv, HEADER), (Mooncake, ""), (Mooncake, "\n\n")]
)
def test_an_empty_file_is_an_error(
    cls: type[AzureConv] | type[Mooncake], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(WorkloadError, match="holds no requests") as caught:
        cls.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("cls", [AzureConv, Mooncake])
def test_a_file_that_is_not_text_is_an_error(
    cls: type[AzureConv] | type[Mooncake], tmp_path: Path
) -> None:
    path = tmp_path / "trace"
    path.write_bytes(b"\x1f\x8b\xff\xfe\x00" * 50)
    with pytest.raises(WorkloadError, match=re.escape(str(path))):
        cls.read(path)


@pytest.mark.parametrize("base", ["azure_conv", "mooncake"])
def test_a_path_without_a_file_is_an_error_at_once(base: str, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(WorkloadError, match=r"workload\.path: no file") as caught:
            build("workload", {"base": base, "path": str(path)})
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("base", ["azure_conv", "mooncake"])
def test_a_missing_public_file_says_how_to_fetch_it(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    monkeypatch.delenv("PALS_DATA", raising=False)
    workload = build("workload", base)
    for use in (lambda: workload.own_rate_per_s, lambda: workload.mean_prompt_tokens):
        with pytest.raises(WorkloadError, match=f"experiments.download {base}"):
            use()
