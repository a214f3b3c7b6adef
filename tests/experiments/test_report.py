"""The HTML page of a run or comparison."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments import compare, report, run, terminal

VOID = {"meta", "img", "br", "link"}


class Balanced(HTMLParser):
    """Notes tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def page_of(folder: Path) -> str:
    report.main([str(folder)])
    text = (folder / "report.html").read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(text)
    assert (parser.wrong, parser.open) == ([], [])
    assert not re.search(r"(src|href)=.(?!data:)", text), "it needs another file"
    return text


def test_a_run_becomes_one_page(command, tmp_path: Path) -> None:
    assert command(run.main, "controller=static", "duration=20").code == 0
    text = page_of(tmp_path / "out")
    assert text.count("data:image/png;base64,") == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    for piece in (
        "static", "Tokens per joule (GPUs)", "mixtral_8x7b", "power_cap_max_w",
        summary["provenance"]["configuration_hash"],
        terminal.shown(summary["tokens_per_joule"]),
    ):  # fmt: skip
        assert piece in text


def test_a_comparison_becomes_one_page(command, tmp_path: Path) -> None:
    given = ("controllers=[static,governor]", "seeds=2", "duration=20", "executor.jobs=1")
    assert command(compare.main, *given).code == 0
    text = page_of(tmp_path / "out")
    assert text.count("data:image/png;base64,") == 1
    result = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    cell = result["controllers"]["governor"]["tokens_per_joule_relative"]
    for piece in ("static", "governor", "Configuration", terminal.shown(cell["ci_low"])):
        assert piece in text


def test_a_folder_without_a_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        report.main([str(tmp_path)])
    assert ended.value.code == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_summary_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(SystemExit):
        report.main([str(tmp_path)])
    assert "summary.json: damaged" in capsys.readouterr().err
