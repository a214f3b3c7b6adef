"""Stamps of pages tell whether the code is still what made them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from envs.errors import ConfigurationError
from experiments import pages
from experiments.records.page_stamps import Stamp, stamps_of, write_stamp
from experiments.records.step_code import step_code

Tree = Callable[[str, str], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A checkout with one command, which imports one module and reads one group of choices."""

    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    write("envs/server.py", '"""A server."""\nSPEED = 1.0\n')
    write("envs/live/device.py", "CAP = 1\n")
    write("experiments/bench.py", "from experiments.parts import sums\n")
    write("experiments/parts/__init__.py", "")
    write("experiments/parts/sums.py", "# adds\nONE = 1\n")
    write("experiments/other.py", "ELSE = 1\n")
    write("conf/model/small.yaml", "# a model\nlayers: 2\n")
    write("conf/tracker/files.yaml", "on: true\n")
    write("conf/other.yaml", "seeds: 1\n")
    return write


CHANGES_NOTHING = {
    "a comment": ("experiments/parts/sums.py", "# sums up\nONE = 1\n"),
    "a docstring": ("envs/server.py", '"""One server."""\nSPEED = 1.0\n'),
    "layout": ("experiments/parts/sums.py", "\n\nONE  =  1\n"),
    "another command": ("experiments/other.py", "ELSE = 2\n"),
    "another command's choices": ("conf/other.yaml", "seeds: 2\n"),
    "a live server": ("envs/live/device.py", "CAP = 2\n"),
    "a tracker": ("conf/tracker/files.yaml", "on: false\n"),
    "a choice's comment": ("conf/model/small.yaml", "# small\nlayers: 2\n"),
}
CHANGES = {
    "what the command imports": ("experiments/parts/sums.py", "ONE = 2\n"),
    "the plant, imported or not": ("envs/server.py", "SPEED = 2.0\n"),
    "a choice": ("conf/model/small.yaml", "layers: 3\n"),
    "an agent's weights": ("agents/bundles/ppo/policy.pt", "weights"),
}


@pytest.mark.parametrize("change", CHANGES_NOTHING.values(), ids=list(CHANGES_NOTHING))
def test_what_makes_no_number_leaves_pages_current(
    tree: Tree, tmp_path: Path, change: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _fresh(tmp_path)
    tree(*change)
    assert _fresh(tmp_path) == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_makes_numbers_makes_pages_stale(
    tree: Tree, tmp_path: Path, change: tuple[str, str]
) -> None:
    before = _fresh(tmp_path)
    tree(*change)
    assert _fresh(tmp_path) != before


def _fresh(root: Path) -> str:
    """Returns the hash as another process would compute it."""
    from experiments.records import step_code as module

    for cached in (module._imports, module._tree, module._code, module._content):
        cached.cache_clear()
    return step_code("experiments.bench", root)


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no module 'experiments\.bench'"):
        step_code("experiments.bench", tmp_path)


def test_a_page_keeps_one_stamp_of_each_step(tmp_path: Path) -> None:
    page = tmp_path / "twin.md"
    page.write_text("# Twin\n", encoding="utf-8")
    for step, code in (("headroom", "aa"), ("errors", "bb"), ("headroom", "cc")):
        write_stamp(Stamp(page, step, f"experiments.{step}", code), "at short scale")
    assert {own.step: own.code for own in stamps_of(page)} == {"headroom": "cc", "errors": "bb"}
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Twin\n\n<!-- made errors by experiments.errors code bb -->\n")
    assert text.count("at short scale") == 2


def test_stale_pages_are_named_with_what_makes_them_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "old.md").write_text("# Old\n", encoding="utf-8")
    (docs / "new.md").write_text("# New\n", encoding="utf-8")
    command = "experiments.benchmark"
    write_stamp(Stamp(docs / "old.md", "benchmark", command, "0000"), "at short scale")
    write_stamp(Stamp(docs / "new.md", "benchmark", command, step_code(command)), "at full scale")
    with pytest.raises(SystemExit):
        pages.main(["--docs", str(docs), "--strict"])
    told = capsys.readouterr().out
    assert "docs/old.md" in told
    assert "make results ONLY=benchmark" in told
    assert "docs/new.md" not in told


def test_code_that_changed_while_a_step_ran_is_no_stamp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, key = tmp_path / "page.md", tmp_path / "benchmark.key"
    page.write_text("# Page\n", encoding="utf-8")
    key.write_text("0000\nffff\n", encoding="utf-8")
    words = ["stamp", "benchmark", "experiments.benchmark", str(page), "--key", str(key)]
    with pytest.raises(SystemExit):
        pages.main(words)
    assert "the code was changed while it ran" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == "# Page\n"
