"""The configuration reference has every choice and command, and every key with its meaning."""

from __future__ import annotations

import pytest

from envs import catalog
from experiments.app.choices_page import choices_page, commands_page


@pytest.fixture(scope="module")
def page() -> str:
    return choices_page()


def sections(page: str) -> dict[str, str]:
    parts = page.split("\n## ")
    return {part.partition("\n")[0].removeprefix("## "): part for part in parts}


def test_every_choice_of_every_group_is_there(page: str) -> None:
    found = sections(page)
    assert list(found) == catalog.groups()
    assert {"controller", "workload/lengths", "gpu", "tracker"} <= set(found)
    for group, text in found.items():
        for name in catalog.names(group):
            assert f"| `{name}` | " in text


def test_keys_have_default_range_and_meaning(page: str) -> None:
    lines = page.splitlines()
    bursty = sections(page)["workload"].split("### Bursty\n")[1].split("### ")[0]
    (load,) = [line for line in bursty.splitlines() if line.startswith("| `load` |")]
    assert "`0.7`" in load
    assert "&gt; 0" in load
    keys = [
        line.split(" | ") for line in lines if line.startswith("| `") and line.count(" | ") == 3
    ]
    assert len(keys) > 300
    unexplained = [row[0] for row in keys if not row[3].strip(" |")]
    assert unexplained == []


def row_of(text: str, key: str) -> str:
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
    return row


def test_keys_of_every_command_are_there_with_what_they_mean() -> None:
    page = commands_page()
    found = {part.partition("\n")[0]: part for part in page.removeprefix("### ").split("\n### ")}
    assert {"run", "benchmark", "imitate", "train", "tune", "figures", "control"} <= set(found)
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert [row for row in rows if len(row) != 4 or not row[3].strip(" |")] == []
    assert ">= 1" in row_of(found["imitate"], "rounds").replace("&gt;", ">")
    assert row_of(found["tune"], "hours").startswith("| `hours` | `20.0` |")
    assert "| `1200.0` |" in row_of(found["benchmark"], "duration")
    assert "| `held_out` | a choice of [suite](#suite) |" in row_of(found["imitate"], "suite")
    assert "`[8.0, 3.0, 1.5, 0.6, 0.2, 0.1]`" in row_of(found["imitate"], "asked.prices")
    assert "| `controller` |" not in found["benchmark"]  # it would have no effect
