"""The HTML page of a run, a comparison or figures."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from envs.errors import ConfigurationError
from experiments import compare, report, run
from experiments.records.made_files import note_made
from experiments.reporting.html import write_report
from experiments.reporting.numbers import format_number

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags are closed in order; collects what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str | None] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(file: Path) -> str:
    """Returns a page's text; it is well formed and needs no other file."""
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.fetched
    assert all(str(address).startswith("data:image/png;base64,") for address in page.fetched)
    assert not re.search(r"(src|href)=.(?!data:)", text)
    assert not {"script", "link"} & set(page.tags)
    return text


def page_of(folder: Path) -> str:
    report.main([str(folder)])
    return checked(folder / "report.html")


def test_a_run_becomes_one_page(command, tmp_path: Path) -> None:
    assert command(run.main, "controller=static", "duration=20").code == 0
    text = page_of(tmp_path / "out")
    assert text.count("data:image/png;base64,") == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    for piece in (
        "static", "Tokens per joule (GPUs)", "mixtral_8x7b", "power_cap_max_w",
        summary["provenance"]["configuration_hash"],
        format_number(summary["tokens_per_joule"]),
    ):  # fmt: skip
        assert piece in text


def test_a_comparison_becomes_one_page(command, tmp_path: Path) -> None:
    given = ("controllers=[static,governor]", "seeds=2", "duration=20", "executor.jobs=1")
    assert command(compare.main, *given).code == 0
    text = page_of(tmp_path / "out")
    assert text.count("data:image/png;base64,") == 1
    result = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    cell = result["controllers"]["governor"]["tokens_per_joule_relative"]
    for piece in ("static", "governor", "Configuration", format_number(cell["ci_low"])):
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


@pytest.mark.parametrize("name", ["summary.json", "comparison.json", "claims.json"])
@pytest.mark.parametrize(
    "content", ["[]", "{}", "[1]", "3", '"x"', "[" * 100_000, '{"controllers": 3}']
)
def test_a_file_of_another_shape_is_named(tmp_path: Path, name: str, content: str) -> None:
    if name == "claims.json" and content in ("[]", "{}"):
        return  # there are none
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError, match=rf"{name}: damaged"):
        write_report(tmp_path)


@pytest.mark.parametrize("name", ["claims.json", "fig07.csv"])
def test_figures_that_were_edited_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "claims.json").write_text("[]")
    (tmp_path / "fig07.png").write_bytes(b"\x89PNG")
    (tmp_path / "fig07.csv").write_text("a,b\n1,2\n")
    note_made(tmp_path, ["claims.json", "fig07.csv"])
    write_report(tmp_path)
    (tmp_path / name).write_text("[ ]" if name == "claims.json" else "a,b\n1,3\n")
    with pytest.raises(ConfigurationError, match=rf"{name}: was edited"):
        write_report(tmp_path)


def test_figures_have_their_claims_escaped(tmp_path: Path) -> None:
    claim = {
        "id": "a", "figure": "fig07", "claim": "a < b & c", "paper": [1.0, 2.0], "ours": 1.5,
        "low": 1.4, "high": None, "scenario": "here", "verdict": "reproduced", "reason": "<b>",
    }  # fmt: skip
    (tmp_path / "claims.json").write_text(json.dumps([claim]))
    (tmp_path / "fig07.png").write_bytes(b"\x89PNG")
    (tmp_path / "fig07.csv").write_text("a,b\n1.23456789,x\n")
    page = write_report(tmp_path, tmp_path / "elsewhere" / "page.html")
    text = checked(page)
    assert "a &lt; b &amp; c" in text
    assert "&lt;b&gt;" in text
    assert "1 to 2" in text
    assert re.search(r"<td>1\.23457</td>", text)


def test_nothing_to_report_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"summary\.json"):
        write_report(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(ConfigurationError, match="damaged"):
        write_report(tmp_path)


@pytest.mark.parametrize("edit", ["9.876", "NaN"])
def test_edited_numbers_are_not_shown(edit: str, command, tmp_path: Path) -> None:
    assert command(run.main, "controller=static", "duration=20").code == 0
    file = tmp_path / "out" / "summary.json"
    text = file.read_text()
    number = json.dumps(json.loads(text)["tokens_per_joule"])
    assert number in text
    file.write_text(text.replace(number, edit, 1))
    with pytest.raises(ConfigurationError, match=r"summary\.json: was edited"):
        write_report(tmp_path / "out")


def test_an_edited_comparison_is_not_shown(command, tmp_path: Path) -> None:
    given = ("controllers=[static]", "seeds=2", "duration=20", "executor.jobs=1")
    assert command(compare.main, *given).code == 0
    file = tmp_path / "out" / "comparison.json"
    result = json.loads(file.read_text())
    result["controllers"]["static"]["tokens_per_joule"]["iqm"] *= 2
    file.write_text(json.dumps(result))
    with pytest.raises(ConfigurationError, match=r"comparison\.json: was edited"):
        write_report(tmp_path / "out")
