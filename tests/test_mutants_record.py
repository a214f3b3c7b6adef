"""Every change of the code that no test notices has an answer in ``mutants.json``."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_what_no_test_notices_is_answered() -> None:
    record = json.loads((ROOT / "tests" / "mutants.json").read_text())
    assert record["tried"]
    for one in record["unnoticed"]:
        assert one["before"] in (ROOT / one["file"]).read_text(), "make mutation ARGS=--again"
        assert len(one["answer"].split()) >= 4, one
