"""The log of a training that is resumed, whatever has become of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support.odd_files import ODD, put_odd

from experiments.training.logger import earlier_rows

GOOD = "time/total_timesteps,a\n10,1\n20,2\n30,3\n"


def test_lines_up_to_the_checkpoint_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "progress.csv"
    file.write_text(GOOD)
    assert [row["a"] for row in earlier_rows(file, 20)] == ["1", "2"]
    assert not caplog.messages


@pytest.mark.parametrize("kind", [*ODD, "cut", "huge", "binary", "missing"])
def test_a_log_that_is_damaged_is_told_and_holds_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    file = tmp_path / "progress.csv"
    contents = {
        "cut": GOOD.replace("30,3", "a").encode(), "binary": b"\xff\x00" * 100,
        "huge": b'time/total_timesteps,a\n1,"' + b"x" * 300_000 + b'"\n',
    }  # fmt: skip
    if kind in ODD:
        put_odd(file, kind)
    elif kind in contents:
        file.write_bytes(contents[kind])
    with caplog.at_level(logging.WARNING):
        assert earlier_rows(file, 100) == []
    assert str(file) in caplog.text
    assert "log of what was trained before is lost" in caplog.text
