"""The page about a run, a comparison or figures."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from envs.errors import ConfigurationError
from experiments import compare, report, run, terminal
from experiments.html_report import write_report

_VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags are closed in order; collects what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        self.fetched += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.fetched
    assert all(address.startswith("data:image/png;base64,") for address in page.fetched)
    assert not {"script", "link"} & set(page.tags)
    return text


def test_a_run_has_picture_figures_configuration_and_provenance(command, tmp_path, monkeypatch):
    assert command(run.main, "controller=static", "duration=60").code == 0
    folder = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["report", str(folder)])
    report.main()
    text = checked(folder / "report.html")
    summary = json.loads((folder / "summary.json").read_text())
    for part in (
        "Tokens per joule (GPUs)", "power_cap_max_w", summary["provenance"]["configuration_hash"]
    ):  # fmt: skip
        assert part in text
    assert terminal.shown(summary["tokens_per_joule"]) in text


def test_a_comparison_has_every_controller_with_its_interval(command, tmp_path):
    done = command(
        compare.main, "controllers=[static,governor]", "seeds=1", "duration=60", "executor.jobs=1"
    )
    assert done.code == 0, done.err
    text = checked(write_report(tmp_path / "out"))
    assert "governor" in text
    assert "Configuration" in text
    result = json.loads((tmp_path / "out" / "comparison.json").read_text())
    cell = result["controllers"]["governor"]["tokens_per_joule_relative"]
    assert terminal.shown(cell["ci_low"]) in text


def test_figures_have_their_claims_escaped(tmp_path):
    claim = {
        "id": "a", "figure": "fig07", "claim": "a < b & c", "paper": [1.0, 2.0], "ours": 1.5,
        "low": 1.4, "high": None, "setting": "here", "verdict": "reproduced", "reason": "<b>",
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


def test_nothing_to_report_on_is_an_error(tmp_path, monkeypatch, capsys):
    with pytest.raises(ConfigurationError, match=r"summary\.json"):
        write_report(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(ConfigurationError, match="damaged"):
        write_report(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as end:
        report.main()
    assert end.value.code == 1
    assert "nowhere" in capsys.readouterr().err
