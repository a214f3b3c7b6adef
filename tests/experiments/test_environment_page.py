"""``docs/environment.md`` says what the environment is, and is as the code makes it."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import pytest

from envs.observations import Observation
from envs.telemetry import Telemetry
from experiments import list_environment
from experiments.reporting.docstrings import attributes_of, summary_line, unit_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "environment.md"


@pytest.fixture(scope="module")
def page() -> str:
    return list_environment.page()


def test_the_page_is_what_the_code_makes(page: str) -> None:
    """Write it again with ``python -m experiments.list_environment > docs/environment.md``."""
    assert PAGE.read_text(encoding="utf-8") == page


def test_every_entry_has_unit_range_scale_and_meaning(page: str) -> None:
    table = page.partition("## Observation")[2].partition("## Actions")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0].isdigit()]
    assert [row[1].strip("`") for row in rows] == list(Observation._fields)
    for row in rows:
        assert len(row) == 6, row
        assert all(cell.strip() for cell in row), row


def test_every_registered_id_is_on_the_page(page: str) -> None:
    for name in gymnasium.registry:
        if name.startswith("pals/"):
            assert f"`{name}`" in page


def test_fields_are_read_from_docstrings() -> None:
    assert set(attributes_of(Telemetry)) == set(Telemetry._fields)
    assert attributes_of(Telemetry)["prefill_backlog_tokens"].endswith("from outside).")
    assert summary_line(Telemetry).startswith("Observation of one server")
    assert unit_of("power_budget_w") == "W"
    assert unit_of("target_tok_s") == "tokens/s"
    assert unit_of("kv_cache_usage") == ""
