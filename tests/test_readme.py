"""The programs in README.md and docs/experiments.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.caches import own_cache

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {
    f"{page}, program {number}": text
    for page in ("README.md", "docs/experiments.md")
    for number, text in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    )
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_the_documentation_runs(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PALS_CACHE", str(own_cache(tmp_path / "cache")))
    exec(compile(PROGRAMS[name], name, "exec"), {})
    if "Governor" in PROGRAMS[name]:
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["Pals", "Governor", "static"]
        efficiency = {line.split()[0]: float(line.split()[1]) for line in lines}
        assert efficiency["Governor"] > efficiency["static"] > 0
