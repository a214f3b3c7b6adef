"""Fills the technical report: ``python -m experiments.write_up outputs/results/full``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from envs.errors import PalsError
from experiments.app.application import describe, print_error
from experiments.records.step_code import ROOT
from experiments.reporting.docs_page import fill
from experiments.reporting.write_up import blocks, first_page


def main(arguments: Sequence[str] | None = None) -> None:
    """Replaces the marked blocks of the report, and that of the first page."""
    parser = argparse.ArgumentParser(prog="python -m experiments.write_up", description=__doc__)
    parser.add_argument("results", type=Path, help="folder of `make results`")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "report.md")
    parser.add_argument("--first-page", type=Path, default=ROOT / "README.md")
    given = parser.parse_args(arguments)
    try:
        fill(given.page, blocks(given.results, given.page.parent))
        docs = given.first_page.parent / "docs"
        fill(given.first_page, {"front": first_page(given.results, docs)})
    except (PalsError, OSError) as error:
        print_error(describe(error))
        sys.exit(1)
    sys.stdout.write(f"Written to {given.page} and {given.first_page}\n")


if __name__ == "__main__":
    main()
