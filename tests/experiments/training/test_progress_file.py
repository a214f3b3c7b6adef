"""A training's log is a whole table after every line, and goes on when the training does."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from experiments.training.logger import ProgressFile, earlier_rows


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def line(steps: int, **more: Any) -> dict[str, Any]:
    return {"time/total_timesteps": steps, **more}


def test_it_is_whole_after_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "progress.csv"
    log = ProgressFile(file)
    log.write(line(10, loss=0.5), {})
    log.write(line(20, loss=0.25), {})
    assert [row["loss"] for row in table(file)] == ["0.5", "0.25"]

    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # while a new column has all be written again
        patch.setattr("pathlib.Path.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            log.write(line(30, loss=0.1, price=1.0), {})
    assert [row["loss"] for row in table(file)] == ["0.5", "0.25"]
    log.write(line(40, loss=0.05, price=2.0), {})
    assert [row["price"] for row in table(file)] == ["", "", "1.0", "2.0"]


def test_a_resumed_one_goes_on_after_the_checkpoint(tmp_path: Path) -> None:
    log = ProgressFile(tmp_path / "progress.csv")
    for steps in (10, 20, 30):
        log.write(line(steps, loss=1.0 / steps), {})
    resumed = ProgressFile(tmp_path / "progress.csv", earlier_rows(tmp_path / "progress.csv", 20))
    resumed.write(line(30, loss="again"), {})
    assert [row["loss"] for row in table(tmp_path / "progress.csv")] == ["0.1", "0.05", "again"]


@pytest.mark.parametrize(
    "content", [None, b"", b"a,b\n1,2\n", b"\xff\xfe", b"time/total_timesteps\nx\n"]
)
def test_a_log_that_is_none_is_no_obstacle(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "progress.csv"
    if content is not None:
        file.write_bytes(content)
    assert earlier_rows(file, 100) == []
