"""Shows runs in a browser while they last or afterwards: ``python -m experiments.watch DIR``."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence

from experiments.app.errors import errors_told
from experiments.app.plain_command import path_argument
from experiments.app.terminal_text import plain
from experiments.watching.server import WatchServer


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves a page on this machine alone until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="pals watch", description=plain(__doc__))
    parser.add_argument("directory", type=path_argument, help="folder of a run, or above several")
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    given = parser.parse_args(arguments)
    with errors_told():
        server = WatchServer(given.directory, given.port)
    sys.stdout.write(f"{server.url} shows {given.directory}; Ctrl-C ends it\n")
    sys.stdout.flush()
    if not given.no_browser:
        webbrowser.open(server.url)
    try:
        server.serve()
    except KeyboardInterrupt:
        sys.stdout.write(f"\n{server.answered} pages and tables were shown\n")
    finally:
        server.close()


if __name__ == "__main__":
    main()
