"""Runs the golden cases again, says what changed and keeps it: ``python -m tests.golden.renew``.

Commit ``golden.json`` together with the change that meant to move the numbers.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.golden.cases import CASES, GOLDEN_FILE, changes, read_golden, run_case, write_golden
from tests.support.caches import own_cache


def main() -> None:
    """Writes ``golden.json`` and prints every metric that is another than before."""
    kept = read_golden()[0] if GOLDEN_FILE.is_file() else {}
    found, lines = {}, []
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["PALS_CACHE"] = str(own_cache(Path(temporary) / "cache"))
        for case in CASES:
            folder = Path(temporary) / case
            folder.mkdir()
            found[case] = run_case(case, folder)
            lines += changes(case, kept.get(case, {}), found[case], exact=True)
    lines += [f"{case}: no longer run" for case in kept if case not in found]
    write_golden(found)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write(f"{len(found)} cases, {len(lines)} metrics changed: {GOLDEN_FILE.name}\n")


if __name__ == "__main__":
    main()
