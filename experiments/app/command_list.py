"""The commands there are: flat files and runnable packages of ``experiments``."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from envs.errors import ConfigurationError
from envs.nearest import did_you_mean

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGE = "experiments"


@cache
def commands() -> dict[str, str]:
    """Returns what each command does, one sentence each, by its name."""
    files = {file.stem: file for file in _ROOT.glob("*.py") if not file.name.startswith("_")}
    files |= {
        file.parent.name: file.with_name("__init__.py") for file in _ROOT.glob("*/__main__.py")
    }
    trees = {name: ast.parse(files[name].read_text(encoding="utf-8")) for name in sorted(files)}
    return {name: summary_of(ast.get_docstring(tree) or "") for name, tree in trees.items()}


def summary_of(docstring: str) -> str:
    """Returns the first sentence of a module's docstring, without the command that follows it."""
    paragraph = docstring.partition("\n\n")[0]
    sentence = re.sub(r"\.\s.*|:? ``python.*", "", " ".join(paragraph.split()))
    return sentence.replace("``", "").rstrip(".:")


def entry(name: str) -> Callable[[], Any]:
    """Returns what runs a command; it reads ``sys.argv``.

    Raises:
        ConfigurationError: There is no such command.
    """
    if name not in commands():
        raise ConfigurationError(
            f"no command {name!r}{did_you_mean(name, commands())} (there are "
            f"{', '.join(commands())})"
        )
    runnable = (_ROOT / name / "__main__.py").is_file()
    module = importlib.import_module(f"{_PACKAGE}.{name}" + (".__main__" if runnable else ""))
    main: Callable[[], Any] = module.main
    return main


def run_command(name: str, arguments: list[str]) -> int:
    """Runs a command as ``python -m experiments.NAME`` does.

    Args:
        name: The command.
        arguments: Its command line.

    Returns:
        The exit code, where the command returns.
    """
    main = entry(name)
    sys.argv = [f"{Path(sys.argv[0]).name} {name}", *arguments]
    code = main()
    return code if isinstance(code, int) else 0
