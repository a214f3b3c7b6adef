"""One HTML page about a run, a comparison or figures: ``python -m experiments.report DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from experiments.app.errors import errors_told
from experiments.app.plain_command import path_argument
from experiments.app.terminal_text import plain
from experiments.reporting.html import write_report


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes ``report.html`` into the folder, or where ``--output`` says."""
    parser = argparse.ArgumentParser(prog="pals report", description=plain(__doc__))
    parser.add_argument("directory", type=path_argument, help="of a run, a comparison or figures")
    parser.add_argument("--output", type=path_argument, help="the page; by default DIR/report.html")
    given = parser.parse_args(arguments)
    with errors_told():
        file = write_report(given.directory, given.output)
    sys.stdout.write(f"Written to {file}\n")


if __name__ == "__main__":
    main()
