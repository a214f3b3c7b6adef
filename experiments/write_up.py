"""Fills the technical report: ``python -m experiments.write_up outputs/results/full``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from envs.errors import ConfigurationError
from experiments.app.errors import errors_told
from experiments.app.plain_command import path_argument
from experiments.records.step_code import ROOT
from experiments.reporting.docs_page import fill
from experiments.reporting.write_up import NOT_MADE, blocks, first_page


def main(arguments: Sequence[str] | None = None) -> None:
    """Replaces the marked blocks of the report, and that of the first page."""
    parser = argparse.ArgumentParser(prog="python -m experiments.write_up", description=__doc__)
    parser.add_argument("results", type=path_argument, help="folder of `make results`")
    parser.add_argument("--page", type=path_argument, default=ROOT / "docs" / "report.md")
    parser.add_argument("--first-page", type=path_argument, default=ROOT / "README.md")
    given = parser.parse_args(arguments)
    with errors_told():
        if not given.results.is_dir():
            raise ConfigurationError(f"results: {given.results} is no folder of `make results`")
        made = blocks(given.results, given.page.parent)
        absent = [name for name, text in made.items() if text == NOT_MADE]
        if "answer" in absent and "claims" in absent:
            raise ConfigurationError(
                f"results: {given.results} holds neither a benchmark nor figures; "
                'make results ONLY="benchmark figures" makes them'
            )
        fill(given.page, made)
        docs = given.first_page.parent / "docs"
        fill(given.first_page, {"front": first_page(given.results, docs)})
    sys.stdout.write(f"Written to {given.page} and {given.first_page}\n")
    if absent:
        sys.stdout.write(f"Nothing was made for these parts, which say so: {', '.join(absent)}\n")


if __name__ == "__main__":
    main()
