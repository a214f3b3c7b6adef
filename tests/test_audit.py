"""``.ci/audit`` passes only where nothing was found or nobody could be asked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "audit"
PYTHON = """#!/bin/sh
# Stands for a Python: makes an environment whose pip-audit says what the test wants.
[ "$2" = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "{tool}" "$3/bin/pip-audit"
exit 0
"""
FOUND = """\
torch could not be audited: no answer
Found 1 known vulnerability in 1 package
Name     Version ID            Fix Versions
networkx 3.6.1   PYSEC-2026-1  3.6.2
"""


@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        (FOUND, 1, 1),
        ("networkx could not be audited: it is not in the database\nerror: odd\n", 1, 1),
        ("requests.exceptions.ConnectionError: cannot resolve the host\n", 1, 0),
        ("No known vulnerabilities found\n", 0, 0),
    ],
)
def test_findings_fail_and_an_unreachable_database_does_not(
    said: str, status: int, expected: int, tmp_path: Path
) -> None:
    (tmp_path / ".ci").mkdir()
    script = shutil.copy(SCRIPT, tmp_path / ".ci" / "audit")
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\nexit {status}\n")
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(tool=tool))
    for file in (tool, python):
        file.chmod(0o755)
    done = subprocess.run(
        ["bash", str(script), "env"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == expected, done.stdout + done.stderr
