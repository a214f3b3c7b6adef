"""The configuration reference has every choice, and every key with what it means."""

from __future__ import annotations

import pytest

from envs import catalog
from experiments.app.choices_page import choices_page


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
