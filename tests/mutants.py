"""Changes the code in small ways and looks whether a test notices: ``make mutation``.

A copy of the tree is changed, never the tree itself. All that can be changed is listed by
cosmic-ray; a sample of it, drawn by a seed, is tried. Libraries are imported once: each change is
tried in a fork of this process, which imports only what is the project's own.

``mutants.json`` says what was tried, and has a line for every change that no test noticed; who
runs this answers it there, with the reason why it changes nothing, or with a new test.

    make mutation ARGS="objectives --sample 40 --seed 1"
    make mutation ARGS="kernel --again"  # only those on record; those noticed by now are removed
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec

ROOT = Path(__file__).resolve().parents[1]
ANSWERS = ROOT / "tests" / "mutants.json"
LONGEST_S = 900.0
"""A test run that takes longer counts as a change noticed, as does one that computes for more than
three times as long as usual."""
LIBRARIES = (
    "numpy", "numba", "numba.extending", "numba.np.numpy_support", "gymnasium", "omegaconf",
    "hydra", "hypothesis", "pandas", "pyarrow", "pytest",
)  # fmt: skip
IDLE = ("core/ReplaceBinaryOperator_BitOr", "core/RemoveDecorator")
"""Beginnings of changes that say nothing: ``|`` stands in types here."""


class Part(NamedTuple):
    """What is changed, and which tests have to notice.

    Attributes:
        modules: Files and folders.
        without: Files among them, by pattern, whose changes can change no number.
        tests: Files and folders of tests.
        variables: What is set in the environment.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    variables: Mapping[str, str] = {}
    without: tuple[str, ...] = ("**/__init__.py",)


PARTS = {
    "objectives": Part(("envs/objectives",), ("tests/envs/objectives",)),
    "rewards": Part(("envs/rewards.py",), ("tests/envs/test_rewards.py",)),
    "evaluation": Part(
        ("experiments/evaluation",),
        tuple(
            f"tests/experiments/evaluation/test_{name}.py"
            for name in ("fronts", "metrics", "metric_table", "statistics", "decisions",
                         "experiment_effects", "reference_qos", "rollout", "batched_rollout")
        ),
    ),
    "kernel": Part(
        ("envs/simulator/kernel",),
        ("tests/envs/simulator/test_engine_cases.py",),
        {"NUMBA_DISABLE_JIT": "1"},  # or all of it would be compiled again for every change
        ("**/__init__.py", "**/ahead.py"),  # fetched memory is read all the same
    ),
}  # fmt: skip


class Change(NamedTuple):
    """A small change of the code.

    Attributes:
        file: Where, from the tree's root.
        line: Number of the first line that it changes.
        before: Lines that were there.
        after: What is there instead.
    """

    file: str
    line: int
    before: str
    after: str


def main() -> int:
    """Tries a sample of the changes of each part; returns 1 if one is left without an answer."""
    parser = argparse.ArgumentParser(description="Tries a sample of the changes of each part.")
    parser.add_argument("parts", nargs="*", metavar=f"{{{','.join(PARTS)}}}", help="all by default")
    parser.add_argument("--sample", type=int, default=40, help="how many changes are tried")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--again", action="store_true", help="only the changes on record")
    options = parser.parse_args()
    parts = options.parts or list(PARTS)
    if len(parts) > 1:  # each with an environment of its own
        rest = ["--sample", str(options.sample), "--seed", str(options.seed)]
        rest += ["--again"] * options.again
        ran = [
            subprocess.run([sys.executable, __file__, name, *rest], check=False) for name in parts
        ]
        return max(one.returncode for one in ran)
    part = PARTS[parts[0]]
    with tempfile.TemporaryDirectory(prefix="pals-mutants-") as place:
        tree = copied(Path(place) / "tree")
        os.environ.update(part.variables, PALS_CACHE=str(tree / ".cache"))
        sys.dont_write_bytecode = True  # a changed file may be as long and as old as it was
        for library in LIBRARIES:
            importlib.import_module(library)
        return tried(tree, parts[0], None if options.again else options.sample, options.seed)


def copied(tree: Path) -> Path:
    """Returns a copy of the files that belong to the tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, tree / name)
    return tree


def tried(tree: Path, name: str, sample: int | None, seed: int) -> int:
    """Tries changes of a part, or those on record, and keeps in the record how they ended."""
    if not passes(tree, PARTS[name], 0.0, shown=True):
        raise SystemExit("the tests fail before anything is changed")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    usual_s = used.ru_utime + used.ru_stime
    known = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {"tried": {}, "unnoticed": []}
    answers = {(one["file"], one["before"], one["after"]): one for one in known["unnoticed"]}
    noticed, unnoticed, open_ones = 0, 0, 0
    if sample is None:
        changes = made_again(tree, [one for one in known["unnoticed"] if one["part"] == name])
    else:
        changes = made(tree, chosen(tree, PARTS[name], sample, seed))
    for change in changes:
        key = (change.file, change.before, change.after)
        if not passes(tree, PARTS[name], usual_s):
            noticed += 1
            answers.pop(key, None)
        else:
            unnoticed += 1
            found = answers.setdefault(key, {"part": name, **change._asdict(), "answer": ""})
            found["line"] = change.line
            if not found["answer"]:
                open_ones += 1
                sys.stdout.write(
                    f"{change.file}:{change.line}\n-{change.before}\n+{change.after}\n"
                )
        told = {"noticed": noticed, "unnoticed": unnoticed}
        if sample is not None:
            known["tried"][f"{name}, sample {sample}, seed {seed}"] = told
        known["unnoticed"] = sorted(answers.values(), key=lambda one: (one["file"], one["line"]))
        ANSWERS.write_text(json.dumps(known, indent=1) + "\n")
        sys.stdout.write(f"{noticed} noticed, {unnoticed} not\n")
        sys.stdout.flush()
    sys.stdout.write(f"{name}, {usual_s:.1f} s each, without an answer {open_ones}\n")
    return 1 if open_ones else 0


def made(tree: Path, mutations: list[MutationSpec]) -> Iterator[Change]:
    """Makes one change after the other; each is there until the next is asked for."""
    for mutation in mutations:
        operator = get_operator(mutation.operator_name)(**mutation.operator_args)
        path = tree / mutation.module_path
        with use_mutation(path, operator, mutation.occurrence) as (before, after):
            if after is not None:
                yield difference(str(mutation.module_path), before, after)


def made_again(tree: Path, recorded: list[dict[str, Any]]) -> Iterator[Change]:
    """Makes changes that are on record; see :func:`made`."""
    for one in recorded:
        path = tree / one["file"]
        text = path.read_text()
        places = [i for i in range(len(text)) if text.startswith(one["before"], i)]
        if not places:
            sys.stdout.write(f"{one['file']} has no more {one['before']}\n")
            continue
        place = min(places, key=lambda i: abs(text.count("\n", 0, i) + 1 - one["line"]))
        line = text.count("\n", 0, place) + 1
        path.write_text(text[:place] + one["after"] + text[place + len(one["before"]) :])
        yield Change(one["file"], line, one["before"], one["after"])
        path.write_text(text)


def chosen(tree: Path, part: Part, sample: int, seed: int) -> list[MutationSpec]:
    """Returns a sample of all changes that say something."""
    modules = ", ".join(f'"{module}"' for module in part.modules)
    config, session = tree / "mutation.toml", tree / "mutation.sqlite"
    config.write_text(
        f"[cosmic-ray]\nmodule-path = [{modules}]\ntimeout = {LONGEST_S}\n"
        f'excluded-modules = {json.dumps(part.without)}\ntest-command = ""\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    command = [sys.executable, "-m", "cosmic_ray.cli", "init", str(config), str(session)]
    subprocess.run(command, cwd=tree, check=True)
    with use_db(str(session), WorkDB.Mode.open) as database:
        items = sorted(database.work_items, key=lambda item: str(item.mutations))
    telling = [
        item.mutations[0] for item in items if not item.mutations[0].operator_name.startswith(IDLE)
    ]
    drawn = random.Random(seed).sample(telling, min(sample, len(telling)))
    sys.stdout.write(
        f"{len(items)} changes, {len(telling)} that say something, {len(drawn)} tried\n"
    )
    sys.stdout.flush()
    return drawn


def difference(file: str, before: str, after: str) -> Change:
    """Returns what differs between two versions of a file, in whole lines."""
    old, new = before.splitlines(), after.splitlines()
    first = 0
    while first < min(len(old), len(new)) and old[first] == new[first]:
        first += 1
    last = 0
    while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
        last += 1
    ends: list[Any] = ["\n".join(lines[first : len(lines) - last]) for lines in (old, new)]
    return Change(file, first + 1, *ends)


def passes(tree: Path, part: Part, usual_s: float, *, shown: bool = False) -> bool:
    """Runs the tests in a fork; returns whether all of them pass in time."""
    child = os.fork()
    if child == 0:
        if usual_s:
            resource.setrlimit(resource.RLIMIT_CPU, (int(3.0 * usual_s) + 3,) * 2)
        os._exit(tests_of(tree, part, shown))
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def tests_of(tree: Path, part: Part, shown: bool) -> int:
    """Runs the tests of the changed tree in this process."""
    import pytest

    os.chdir(tree)
    if not shown:
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    others = {str(ROOT), str(ROOT / "tests"), ""}
    sys.path[:] = [str(tree), *(place for place in sys.path if place not in others)]
    os.environ["PYTHONPATH"] = str(tree)
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *part.tests]))


if __name__ == "__main__":
    sys.exit(main())
