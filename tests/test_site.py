"""The documentation's site builds without a warning, and has what was asked of it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import pals_gym

ROOT = Path(__file__).resolve().parents[1]


def test_every_public_name_is_on_the_api_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = {line.rpartition(".")[2] for line in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    assert set(pals_gym.__all__) <= shown


def pages() -> list[str]:
    """Every page of the site, from the folder of all pages."""
    docs = ROOT / "docs"
    return sorted(
        str(page.relative_to(docs)) for page in [*docs.glob("*.md"), *docs.glob("lab/*.md")]
    )


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = str(yaml.safe_load(text)["nav"])
    for page in pages():
        assert f"'{page}'" in navigation, page


def test_every_page_of_the_lab_book_is_linked_from_the_page_that_it_belongs_to() -> None:
    for page in (ROOT / "docs" / "lab").glob("*.md"):
        owner = ROOT / "docs" / page.name
        assert f"](lab/{page.name}" in owner.read_text(encoding="utf-8"), page.name
        assert f"](../{page.name}" in page.read_text(encoding="utf-8"), page.name


def test_every_picture_is_shown_by_a_page() -> None:
    docs = ROOT / "docs"
    shown = {
        ((docs / page).parent / target).resolve()
        for page in pages()
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", (docs / page).read_text("utf-8"))
    }
    assert {file.resolve() for file in (docs / "images").rglob("*.png")} == shown


def test_every_command_is_named_by_a_page() -> None:
    texts = [(ROOT / "docs" / page).read_text(encoding="utf-8") for page in pages()]
    named = set(re.findall(r"(?:experiments\.|pals )(\w+)", "".join(texts)))
    assert {file.stem for file in (ROOT / "experiments").glob("[a-z]*.py")} <= named


def test_every_shipped_agent_is_in_the_table_of_licences() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for bundle in (ROOT / "agents" / "bundles").iterdir():
        assert re.search(rf"\b{bundle.name}`", page), bundle.name


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))])
def test_every_table_has_a_head(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for block in re.split(r"\n(?:[ \t]*\n)+", text):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert not rows or re.fullmatch(r"[|\s:-]+", [*rows, ""][1]), f"{page.name}: {rows[0]}"


def anchors(page: Path) -> set[str]:
    """The ends of a page's addresses, as MkDocs makes them of its headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())
        for title in re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))])
def test_links_and_their_anchors_lead_somewhere(page: Path) -> None:
    for path, anchor in re.findall(
        r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")
    ):
        if "://" not in path:
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {path}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {path}#{anchor}"


def test_no_section_ends_where_it_begins() -> None:
    for page in pages():
        text = re.sub(r"<!--.*?-->", "", (ROOT / "docs" / page).read_text(encoding="utf-8"))
        text = re.sub(r"^```.*?^```", "code", text, flags=re.MULTILINE | re.DOTALL)
        parts = re.split(r"^(#+) +(.*)$", text, flags=re.MULTILINE)[1:]
        for level, title, body, deeper in zip(
            parts[::3], parts[1::3], parts[2::3], [*parts[3::3], ""], strict=True
        ):
            assert body.strip() or len(deeper) > len(level), f"{page}: {title} says nothing"


@pytest.mark.parametrize(
    ("place", "link", "shown"),
    [
        ("agents.md", "[card](../agents/card.md)", "card (`agents/card.md`)"),
        ("agents.md", "[`conf/run.yaml`](../conf/run.yaml)", "`conf/run.yaml`"),
        ("lab/agents.md", "[agents](../agents.md)", "[agents](../agents.md)"),
        ("lab/agents.md", "[rule](../agents.md#rule)", "[rule](../agents.md#rule)"),
        ("lab/agents.md", "[card](../../agents/card.md)", "card (`agents/card.md`)"),
    ],
)
def test_links_to_pages_are_kept_and_other_files_named(place: str, link: str, shown: str) -> None:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = SimpleNamespace(file=SimpleNamespace(src_path=place))
    assert hooks.on_page_markdown(f"See {link}.", page=page) == f"See {shown}."


@pytest.mark.long
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site needs pip install 'pals-gym[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    environment = (tmp_path / "environment" / "index.html").read_text(encoding="utf-8")
    assert "prefill_backlog_tokens" in environment
    configuration = (tmp_path / "configuration" / "index.html").read_text(encoding="utf-8")
    assert "mixtral_8x7b" in configuration
    api = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    assert "seeds" in api
    assert ":class:" not in api
