"""The documentation's site builds without a warning, and has what was asked of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pals_gym

ROOT = Path(__file__).resolve().parents[1]


def test_every_public_name_is_on_the_api_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = {line.rpartition(".")[2] for line in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    assert set(pals_gym.__all__) <= shown


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = str(yaml.safe_load(text)["nav"])
    for page in (ROOT / "docs").glob("*.md"):
        assert f"'{page.name}'" in navigation, page.name


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
