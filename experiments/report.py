"""Turns a run or a comparison into one HTML page: ``python -m experiments.report DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from envs.cache import atomic_write_text
from envs.errors import PalsError
from experiments.application import describe, print_error
from experiments.web_page import web_page

PAGE_FILE = "report.html"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes ``report.html`` into the folder, or where ``--output`` says."""
    parser = argparse.ArgumentParser(prog="python -m experiments.report", description=__doc__)
    parser.add_argument("directory", type=Path, help="folder of a finished run or comparison")
    parser.add_argument("--output", type=Path, help=f"file to write; DIR/{PAGE_FILE} by default")
    given = parser.parse_args(arguments)
    file: Path = given.output or given.directory / PAGE_FILE
    try:
        atomic_write_text(file, web_page(given.directory))
    except (PalsError, OSError) as error:
        print_error(describe(error))
        sys.exit(1)
    sys.stdout.write(f"Written to {file}\n")


if __name__ == "__main__":
    main()
