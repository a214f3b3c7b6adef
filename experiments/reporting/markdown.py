"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """Returns a Markdown table, without a line break at its end.

    Args:
        head: Names of the columns.
        rows: Cells of each row, as many as there are columns.
        align: One letter per column: ``r`` aligns it to the right, any other letter to the
            left; columns without a letter are aligned to the left.

    Raises:
        ValueError: A row has another number of cells than the head.
    """
    rules = ["---:" if letter == "r" else "---" for letter in align.ljust(len(head))]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(rules)}|"]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"{len(row)} cells in a table with {len(head)} columns: {row}")
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)
