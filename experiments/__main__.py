"""Lists the commands, or runs one: ``python -m experiments``, ``pals run controller=pals``."""

from __future__ import annotations

import os
import shutil
import sys

from envs.errors import PalsError
from experiments.app.command_list import commands, run_command
from experiments.app.terminal_text import wrapped

_WIDEST = 100


def listing(width: int) -> str:
    """Returns the commands with one line each.

    Args:
        width: Columns of the terminal; lines that are longer are wrapped.
    """
    longest = max(len(name) for name in commands())
    lines = ["Usage: pals COMMAND [ARGUMENTS], or python -m experiments.COMMAND [ARGUMENTS]", ""]
    for name, what in commands().items():
        lines += wrapped(f"  {name:<{longest}}  ", what, width)
    lines += ["", "pals COMMAND --help shows what a command can be given."]
    return "\n".join(lines)


def main() -> None:
    """Runs the command that the line names; lists the commands where it names none.

    Packages of the folder that it is started in can be imported, as with ``python -m``; they come
    last, so that none of them hides another.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        sys.stdout.write(listing(min(shutil.get_terminal_size().columns, _WIDEST)) + "\n")
        return
    if name in ("-sc", "--shell-completion"):
        from experiments.app.completion import complete  # imports Hydra

        complete(rest)
        return
    try:
        code = run_command(name, rest)
    except PalsError as error:
        sys.stderr.write(f"error: {error}\n")
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
