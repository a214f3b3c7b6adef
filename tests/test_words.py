"""Code and pages use the field's terms: see ``docs/glossary.md``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("envs", "baselines", "agents", "experiments", "pals_gym", "benchmarks", "examples", "tests")
GENERATED = {"docs/results.md", "docs/reproduction.md", "docs/validation.md", "docs/metrics.md"}
TERMS = {
    r"judg\w*": "evaluate, evaluation",
    r"anew": "again",
    r"lattices?": "grid",
    r"restless\w*": "knob oscillation",
    r"rots?|rotten|rotting": "persistent violation",
    r"lest": "so that ... not",
    r"whoever|somebody|somebodys": "the caller, the operator",
}
"""Words to avoid, with the field's term for each."""
ALLOWED: dict[str, frozenset[str]] = {
    "tests/test_words.py": frozenset(TERMS),
}
"""Files in which a word has an honest use."""


def files() -> Iterator[Path]:
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").glob("*.md"))
    for folder in CODE:
        yield from sorted((ROOT / folder).rglob("*.py"))


def avoided(text: str, word: str) -> list[int]:
    """Lines, counted from 1, that have the word, also as a part of a name in snake case."""
    found = re.compile(rf"(?<![A-Za-z])(?:{word})(?![A-Za-z])", re.IGNORECASE)
    return [number for number, line in enumerate(text.splitlines(), 1) if found.search(line)]


@pytest.mark.parametrize("word", TERMS)
def test_the_fields_terms_are_used(word: str) -> None:
    places = []
    for file in files():
        name = file.relative_to(ROOT).as_posix()
        if name not in GENERATED and word not in ALLOWED.get(name, ()):
            text = file.read_text(encoding="utf-8")
            places += [f"{name}:{line}" for line in avoided(text, word)]
    assert not places, f"say {TERMS[word]!r} at {', '.join(places)}"


def test_the_search_finds_words_and_parts_of_names() -> None:
    assert avoided("fine\nto judge it", r"judg\w*") == [2]
    assert avoided("def test_it_is_judged(): ...", r"judg\w*") == [1]
    assert avoided("prejudge", r"judg\w*") == []
    assert avoided("rotate, protocol", r"rots?|rotten|rotting") == []


@pytest.mark.parametrize("folder", [folder for folder in CODE if folder != "tests"])
def test_docstrings_say_something(folder: str) -> None:
    """An override has no docstring, or one of its own; so has a check of a configuration."""
    empty = re.compile(r'"""(See :(meth|attr|class):`[^`]+`\.|Checks the values?\.)(""")?$', re.M)
    for file in sorted((ROOT / folder).rglob("*.py")):
        found = empty.search(file.read_text(encoding="utf-8"))
        assert found is None, f"{file.relative_to(ROOT)}: {found[0]}"
