"""Shell completion of ``pals COMMAND``: Hydra's own, told which command the line is about."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from experiments.app.command_list import commands, entry

_LINE = "COMP_LINE"


def complete(arguments: list[str]) -> None:
    """Installs completion, or prints what may stand next on the line in ``COMP_LINE``.

    Args:
        arguments: What follows the flag: ``install=bash``, ``uninstall=bash`` or ``query=bash``;
            ``zsh`` and ``fish`` as well.
    """
    what = arguments[0] if arguments else "install=bash"
    program = Path(sys.argv[0]).name
    command = "run"
    if what.startswith("query="):
        words = os.environ.get(_LINE, "").split()
        in_first = len(words) < 2 or (len(words) == 2 and not os.environ[_LINE].endswith(" "))
        if in_first or words[1] not in commands():
            typed = words[1] if len(words) == 2 and in_first else ""
            sys.stdout.write(" ".join(name for name in commands() if name.startswith(typed)))
            return
        command = words[1]
        rest = os.environ[_LINE].split(command, 1)[1].lstrip()
        os.environ[_LINE] = f"{program} {rest}"
    sys.argv = [program, "-sc", what]
    entry(command)()
