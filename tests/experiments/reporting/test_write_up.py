"""The technical report's blocks say what the files of ``make results`` say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from envs.errors import ConfigurationError
from experiments import write_up
from experiments.records.made_files import note_made
from experiments.reporting import write_up as reporting
from experiments.reporting.docs_page import fill
from experiments.reporting.write_up import COPIED, NOT_MADE, block_of, blocks, first_page

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "figures").mkdir()
    (tmp_path / "benchmark").mkdir()
    claim = {"figure": "fig07", "claim": "batch only gains", "paper": 1.14, "ours": 1.0}
    claims = [
        {**claim, "verdict": "not reproduced"},
        {**claim, "claim": "PALS gains", "paper": [3.2, 5.3], "verdict": "reproduced"},
    ]
    (tmp_path / "figures" / "claims.json").write_text(json.dumps(claims), encoding="utf-8")
    (tmp_path / "figures" / "mechanisms.csv").write_text(
        "claim,mechanism,paper,ours,verdict\n"
        "gains,as above,1.14,1.000 (1.000 to 1.000),not reproduced\n"
        "gains,other lengths,1.14,1.130 (1.120 to 1.150),reproduced\n",
        encoding="utf-8",
    )
    report = (
        "# Results\n\n- 2 scenarios, 2 paired seeds each\n\n## What is required of `ppo`\n\n"
        "| required | measured | met |\n|---|---|---|\n| to gain | 1.2 | yes |\n"
        "| to keep | 5 % | **no** |\n| to check | – | not checked |\n\n## More\n"
    )
    (tmp_path / "benchmark" / "results.md").write_text(report, encoding="utf-8")
    return tmp_path


def test_blocks_say_what_the_files_say(results: Path) -> None:
    found = blocks(results, ROOT / "docs")
    assert found["claims"].startswith("2 claims: 1 reproduced, 0 reproduced in direction, 1 not")
    assert "| fig07 | batch only gains | 1.14 | 1 |" in found["claims"]
    assert "gains (paper: 1.14): brought back by other lengths." in found["mechanisms"]
    assert "1.000 (as above); 1.130 (other lengths)" in found["mechanisms"]
    assert (
        "Of 3 requirements that were written down for the agent it meets 1."
        in (found["requirements"])
    )
    assert "Missed: to keep." in found["requirements"]
    assert found["protocol"] == "What was run: 2 scenarios, 2 paired seeds each."
    assert found["answer"] == NOT_MADE


def test_the_plant_tells_its_goals() -> None:
    found = blocks(ROOT / "nowhere", ROOT / "docs")["plant"]
    counted = re.match(r"Of (\d+) goals (\d+) are met", found)
    assert counted
    table = block_of(ROOT / "docs" / "validation.md", "targets")
    assert int(counted[1]) == len(re.findall(r"\| (?:yes|\*\*no\*\*) \|$", table, re.MULTILINE))
    assert int(counted[2]) == len(re.findall(r"\| yes \|$", table, re.MULTILINE))
    assert "family left out" not in found


def test_the_report_has_every_block_once_and_what_is_copied_is_there(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    page = tmp_path / "report.md"
    page.write_text(text, encoding="utf-8")
    found = blocks(tmp_path, ROOT / "docs")
    fill(page, found)
    assert len(re.findall("<!-- begin ", text)) == len(found)
    for other, block in COPIED.values():
        assert f"<!-- begin {block} -->" in (ROOT / "docs" / other).read_text(encoding="utf-8")


def test_the_command_fills_a_page(results: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    page = docs / "report.md"
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    page.write_text(re.sub("(?s)(<!-- begin (\\w+) -->\n).*?(<!-- end)", r"\1\3", text), "utf-8")
    first = tmp_path / "README.md"
    first.write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    write_up.main([str(results), "--page", str(page), "--first-page", str(first)])
    assert "docs/images/comparison.png" in first.read_text(encoding="utf-8")
    assert "brought back by other lengths" in page.read_text(encoding="utf-8")
    assert NOT_MADE in page.read_text(encoding="utf-8")  # the pages beside it are not there


@pytest.mark.parametrize("content", ["{", "[1]", '{"verdict": 1}'])
def test_results_that_are_damaged_are_one_message(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (results / "figures" / "claims.json").write_text(content)
    page = tmp_path / "report.md"
    page.write_text((ROOT / "docs" / "report.md").read_text(encoding="utf-8"), encoding="utf-8")
    before = page.read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        write_up.main([str(results), "--page", str(page), "--first-page", str(page)])
    assert "is damaged" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("name", ["figures/claims.json", "figures/mechanisms.csv",
                                  "benchmark/results.md"])  # fmt: skip
def test_results_that_were_edited_are_refused(results: Path, name: str) -> None:
    file = results / name
    note_made(file.parent, [file.name])
    before = blocks(results, ROOT / "docs")
    file.write_text(file.read_text().replace("1.14", "1.04").replace("reproduced", "not so"))
    if name.endswith(".md"):
        file.write_text(file.read_text().replace("1.2", "1.3"))
    with pytest.raises(ConfigurationError, match=rf"{name}: was edited"):
        blocks(results, ROOT / "docs")
    (file.parent / "hashes.json").write_text("[" * 100_000)
    with pytest.raises(ConfigurationError, match=r"hashes.json: is damaged"):
        blocks(results, ROOT / "docs")
    note_made(file.parent, [file.name])  # made again
    assert blocks(results, ROOT / "docs") != before or name.endswith(".md")


def test_the_first_page_begins_with_the_fronts_once_they_are_there(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = results / "docs"
    assert "comparison.png" in first_page(results, docs)
    (docs / "images").mkdir(parents=True)
    (docs / "images" / "front.png").touch()
    monkeypatch.setattr(reporting, "_fronts", lambda _: {})
    shown = first_page(results, docs)
    assert "docs/images/front.png" in shown
    assert "neither is said to beat the other" in shown
    assert "What was run: 2 scenarios, 2 paired seeds each" in shown


@pytest.mark.parametrize("there", [False, True])
def test_what_is_no_folder_of_results_leaves_the_pages_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    page = tmp_path / "report.md"
    page.write_text("<!-- begin answer -->\nYes.\n<!-- end answer -->\n", encoding="utf-8")
    folder = tmp_path / "results"
    if there:
        folder.mkdir()
    with pytest.raises(SystemExit):
        write_up.main([str(folder), "--page", str(page), "--first-page", str(page)])
    assert "results:" in capsys.readouterr().err
    assert "Yes." in page.read_text(encoding="utf-8")
