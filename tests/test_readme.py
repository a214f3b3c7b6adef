"""The programs in README.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.caches import own_cache

README = Path(__file__).resolve().parents[1] / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_readme_runs(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PALS_CACHE", str(own_cache(tmp_path / "cache")))
    exec(compile(PROGRAMS[number], f"README.md, program {number}", "exec"), {})
    if "evaluate(" in PROGRAMS[number]:
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["Pals", "Governor", "static"]
        efficiency = {line.split()[0]: float(line.split()[1]) for line in lines}
        assert efficiency["Governor"] > efficiency["static"] > 0
