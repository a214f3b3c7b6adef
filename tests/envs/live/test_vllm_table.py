"""The releases that the plug-in names as its range are those that the page's table shows."""

from __future__ import annotations

import sys

import pytest

from envs.live.guard import ROOT
from envs.live.vllm_plugin.pals_batch_limit import versions


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> object:
    """The script that makes the table."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "live"))
    monkeypatch.delitem(sys.modules, "vllm_versions", raising=False)
    import vllm_versions

    return vllm_versions


def test_the_table_shows_the_range_and_nothing_that_failed(table: object) -> None:
    rows = table.rows_of((ROOT / "docs" / "live.md").read_text())  # type: ignore[attr-defined]
    releases = [tuple(map(int, row["vLLM"].split(".")[:2])) for row in rows]
    assert (min(releases), max(releases)) == (versions.OLDEST, versions.NEWEST)
    assert releases == sorted(releases)
    assert len(releases) >= 7
    assert all("NO" not in row.values() for row in rows)


def test_a_row_is_added_and_the_others_stay(table: object) -> None:
    before = (ROOT / "docs" / "live.md").read_text()
    rows = table.rows_of(before)  # type: ignore[attr-defined]
    assert table.with_rows(before, rows[::-1]) == before  # type: ignore[attr-defined]
    new = {"vLLM": "0.40.0", "torch": "3", "imports": "NO"}
    after = table.with_rows(before, [*rows, new])  # type: ignore[attr-defined]
    assert "| 0.40.0 | 3 | NO | – |" in after
    assert table.rows_of(after)[:-1] == rows  # type: ignore[attr-defined]
