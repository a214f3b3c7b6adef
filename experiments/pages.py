"""Says which pages were made by other code than that at hand: ``python -m experiments.pages``.

``make results`` also has it write the stamps that tell (``stamp``), and the keys by which a step is
known to be done (``key``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from envs.errors import PalsError
from envs.safe_files import read_regular
from envs.sources import library_versions, short_hash
from experiments.app.errors import errors_told
from experiments.app.plain_command import path_argument
from experiments.records.hashing import digest
from experiments.records.page_stamps import Stamp, stamps_below, stamps_of, write_stamp
from experiments.records.step_code import ROOT, step_code

_MOST_KEY_BYTES = 1 << 16


def main(arguments: Sequence[str] | None = None) -> None:
    """Lists stamps, writes one, or prints a step's key."""
    given = _parser().parse_args(arguments)
    fresh = True
    with errors_told():
        if given.action == "stamp":
            _stamp(given)
        elif given.action == "key":
            sys.stdout.write(_key(given))
        elif given.action == "unmade":
            sys.stdout.write(" ".join(_unmade(given.steps)))
        else:
            fresh = _listed(given.docs)
    if given.strict and not fresh:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.pages", description=__doc__)
    parser.add_argument(
        "--docs", type=path_argument, default=ROOT / "docs", help="folder of the pages"
    )
    parser.add_argument("--strict", action="store_true", help="fail where a page is stale")
    actions = parser.add_subparsers(dest="action")
    stamp = actions.add_parser("stamp", help="stamp pages that a step has just made")
    stamp.add_argument("step")
    stamp.add_argument("command", help="module of the command that made them")
    stamp.add_argument("pages", nargs="+", type=path_argument)
    stamp.add_argument(
        "--key", type=path_argument, required=True, help="the step's key as it began"
    )
    stamp.add_argument("--remark", default="at full scale")
    unmade = actions.add_parser("unmade", help="print the steps whose pages lack their stamp")
    unmade.add_argument("steps", nargs="*", help="STEP:COMMAND:PAGE")
    key = actions.add_parser("key", help="print what a step's results depend on")
    key.add_argument("command", help="module of the command")
    key.add_argument("words", help="its command line, in one word")
    key.add_argument("--data", nargs="*", default=[], help="files and folders that it reads")
    return parser


def _key(given: argparse.Namespace) -> str:
    """Returns two lines: the hash of the code, and that of all else."""
    rest = digest({"paths": [str(Path(name).resolve()) for name in given.data]})
    words = short_hash(repr((given.words, rest, library_versions())).encode())
    return f"{step_code(given.command)}\n{words}\n"


def _unmade(steps: Sequence[str]) -> list[str]:
    """Returns those of the steps whose page does not say that it was made by the code at hand."""
    found = []
    for text in steps:
        step, command, page = text.split(":")
        made = {stamp.step: stamp.code for stamp in stamps_of(Path(page))}
        if made.get(step) != step_code(command):
            found.append(step)
    return found


def _stamp(given: argparse.Namespace) -> None:
    code = step_code(given.command)
    began = (read_regular(given.key, _MOST_KEY_BYTES).decode(errors="replace").split() or [""])[0]
    if code != began:
        raise PalsError(
            f"{given.step}: the code was changed while it ran ({began}, now {code}); "
            "make results makes it again"
        )
    for page in given.pages:
        write_stamp(Stamp(page, given.step, given.command, code), given.remark)


def _listed(docs: Path) -> bool:
    """Prints what is stale and returns whether nothing is."""
    stale = [stamp for stamp in stamps_below(docs) if not stamp.is_current]
    for stamp in stale:
        sys.stdout.write(
            f"{stamp.page.relative_to(docs.parent)}: step {stamp.step} was made by other code "
            f"({stamp.code}); make results ONLY={stamp.step}\n"
        )
    if not stale:
        sys.stdout.write("Every stamped page was made by the code at hand.\n")
    return not stale


if __name__ == "__main__":
    main()
