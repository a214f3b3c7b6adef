"""Where JSON from elsewhere is read, what is nested without end is refused like other garbage."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.live.http_client import HttpClient
from envs.live.limit_notes import read

ROOT = Path(__file__).resolve().parents[1]
DEEP = b"[" * 100_000


def _incomplete(file: Path) -> Iterator[int]:
    """Yields the lines of handlers of JSON that is none, which pass over what is nested deep."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Try):
            continue
        reads = any(
            isinstance(inner, ast.Attribute)
            and inner.attr in ("load", "loads")
            and isinstance(inner.value, ast.Name)
            and inner.value.id == "json"
            for statement in node.body
            for inner in ast.walk(statement)
        )
        handled = {
            name.id
            for handler in node.handlers
            for name in ast.walk(handler.type or ast.Name("BaseException"))
            if isinstance(name, ast.Name)
        }
        if reads and "ValueError" in handled and "RecursionError" not in handled:
            yield node.lineno


def test_a_handler_of_garbage_is_one_of_deep_nesting() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for folder in ("envs", "baselines", "agents", "experiments")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line in _incomplete(file)
    ]
    assert not found, f"json.loads raises RecursionError, too: {', '.join(found)}"


def test_a_servers_answer_that_is_nested_deep_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    client = HttpClient("http://127.0.0.1:1", {}, 1.0)
    monkeypatch.setattr(client, "call", lambda *_: (200, DEEP))
    assert client.get_json("/version") is None


def test_a_note_that_is_nested_deep_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "note").write_bytes(DEEP)
    monkeypatch.setattr("envs.live.limit_notes._file", lambda _: tmp_path / "note")
    assert read("x") is None
