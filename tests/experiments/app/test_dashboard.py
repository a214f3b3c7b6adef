"""What the terminal shows of a run: a picture in 40 columns, lines without a terminal, an end."""

from __future__ import annotations

import io
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from envs.factory import make_simulated
from envs.serving import ServingEnv
from experiments.app.dashboard import Dashboard, Totals, panel, sparkline
from experiments.app.terminal import Progress
from experiments.records.interval_table import Row, interval_row
from experiments.run import main as run


@pytest.fixture(scope="module")
def episode() -> tuple[ServingEnv, list[Row]]:
    """Forty intervals of a server with a power budget."""
    env = make_simulated(
        model="olmoe_1b_7b", server={"base": "simulated", "tensor_parallel": 1},
        objective="power_budget",
    )  # fmt: skip
    env.reset(seed=1)
    rows = []
    for _ in range(40):
        _, reward, _, _, info = env.step(np.array([5, 5]))
        rows.append(interval_row(float(reward), info))
    return env, rows


def fed(dashboard: Dashboard, episode: tuple[ServingEnv, list[Row]]) -> None:
    env, rows = episode
    dashboard.begins(env.context)
    for row in rows:
        dashboard.interval(row)


def until_now(episode: tuple[ServingEnv, list[Row]]) -> float:
    """Tokens per joule of all intervals, as the metric of a run."""
    rows = episode[1]
    tokens = sum((row["prompt_tokens"] or 0) + (row["output_tokens"] or 0) for row in rows)
    return tokens / sum(row["energy_gpu_j"] or 0.0 for row in rows)


@pytest.mark.parametrize("width", [40, 60, 120])
def test_the_picture_fits_the_terminal(episode: tuple[ServingEnv, list[Row]], width: int) -> None:
    out = io.StringIO()
    dashboard = Dashboard(console=Console(file=io.StringIO(), width=width))
    fed(dashboard, episode)
    dashboard.update("pals", 40, 1200)
    Console(file=out, width=width).print(dashboard._picture())
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    shown = {line[:8].strip(): line for line in lines}
    last = episode[1][-1]
    assert f"{last['throughput_tok_s']:,.0f} of {last['target_tok_s']:,.0f}" in shown["tokens/s"]
    assert f"of cap {last['power_cap_w']:,.0f}" in shown["power W"]
    assert f"{last['power_budget_w']:,.0f}" in shown["budget W"]
    assert f"{last['running']:.0f} of {last['max_num_seqs']:.0f}" in shown["batch"]
    for label in ("waiting", "TTFT p99", "TPOT p99", "tokens/J", "violated"):
        assert label in shown
    assert "40/1200" in lines[0].replace(" ", "")
    assert f"{until_now(episode):.3f}" in shown["tokens/J"]


def test_a_terminal_is_drawn_in_and_left_as_it_was(episode: tuple[ServingEnv, list[Row]]) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(sys.__stdout__)
    logging.getLogger().addHandler(handler)
    console = Console(file=out, force_terminal=True, width=40)
    try:
        with Dashboard(console=console) as dashboard:
            fed(dashboard, episode)
            assert handler.stream is not sys.__stdout__
        assert handler.stream is sys.__stdout__
    finally:
        logging.getLogger().removeHandler(handler)
    assert "tokens/J" in out.getvalue()
    assert out.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_lines_come_where_there_is_no_terminal(episode: tuple[ServingEnv, list[Row]]) -> None:
    out, now = io.StringIO(), [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    env, rows = episode
    with Dashboard(every_s=20.0, console=Console(file=out), clock=clock) as dashboard:
        fed(dashboard, (env, rows))
    lines = out.getvalue().splitlines()
    assert 2 <= len(lines) <= 4
    assert lines[-1].split()[0] == "20.0"
    assert "tok/s of" in lines[-1]
    assert lines[-1].endswith(f"{until_now(episode):.2f} tok/J")
    assert "\x1b" not in out.getvalue()


def test_a_run_without_budget_and_target_ends_with_a_line(command: Callable[..., Any]) -> None:
    done = command(run, "controller=static", "duration=10", "objective=efficiency")
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if "tok/s" in line]
    assert lines[-1].split()[:2] == ["10.0", "s"]  # a slow machine has some before it
    assert " of " not in "".join(lines)


def test_a_run_that_ends_in_its_warm_up_says_so(command: Callable[..., Any]) -> None:
    done = command(run, "controller=static", "duration=10")
    assert done.code == 0, done.err
    assert "all of the 10 s are warm-up (objective.qos.warmup_s)" in done.out
    assert "warm-up" not in command(run, "controller=static", "duration=40").out


def test_an_interruption_says_what_was_done(episode: tuple[ServingEnv, list[Row]]) -> None:
    out = io.StringIO()
    dashboard = Dashboard(console=Console(file=out))
    with dashboard:
        fed(dashboard, episode)
        dashboard.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    tokens = sum(row["output_tokens"] or 0.0 for row in episode[1])
    assert out.getvalue().startswith("until then: 20.0 s (40 intervals), ")
    assert f"{tokens:,.0f} output tokens" in out.getvalue()


def test_interrupted_work_of_many_parts_says_how_many_were_done() -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out))
    with progress:
        progress.update("runs", 7, 20)
        progress.update("profile", 1200, 1200)
        progress.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert "until then: runs 7 of 20, profile 1,200 of 1,200" in out.getvalue().splitlines()


def test_totals_are_sums(episode: tuple[ServingEnv, list[Row]]) -> None:
    totals = Totals()
    for row in episode[1]:
        totals.add(row)
    assert totals.energy_j == pytest.approx(sum(row["energy_gpu_j"] or 0 for row in episode[1]))
    tokens = sum((row["prompt_tokens"] or 0) + (row["output_tokens"] or 0) for row in episode[1])
    assert totals.tokens == tokens
    assert totals.violated == np.mean([row["cost"] for row in episode[1]])
    assert "nan tokens/J" in str(Totals())


def test_sparklines_are_relative_to_their_limit() -> None:
    assert sparkline([0.0, 5.0, 10.0], math.nan, 10) == "▁▅█"
    assert sparkline([0.0, 5.0, 10.0], 20.0, 10) == "▁▃▅"
    assert sparkline([1.0, math.nan, 1.0], math.nan, 2) == " █"
    assert sparkline([0.0, 0.0], math.nan, 5) == "  "
    assert sparkline([1.0], 1.0, 0) == ""


def test_a_narrow_terminal_leaves_the_lines_out(episode: tuple[ServingEnv, list[Row]]) -> None:
    env, rows = episode
    dashboard = Dashboard(console=Console(file=io.StringIO(), width=30))
    fed(dashboard, (env, rows))
    from experiments.app.dashboard import _shown

    table = panel([_shown(row, env.context) for row in rows], dashboard.done, 30)
    assert len(table.columns) == 2


def test_ctrl_c_ends_a_run_with_what_was_done(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Dashboard.interval

    def interrupted(self: Dashboard, row: Row) -> None:
        take(self, row)
        if self.done.intervals == 30:
            raise KeyboardInterrupt

    monkeypatch.setattr(Dashboard, "interval", interrupted)
    done = command(run, "controller=static", "duration=60")
    assert done.code == 130
    assert "until then: 15.0 s (30 intervals), " in done.err
    assert "tokens/J" in done.err
    assert "error: interrupted" in done.err
    assert "Traceback" not in done.err
    assert (tmp_path / "out" / "intervals.parquet").is_file()
    assert not (tmp_path / "out" / "summary.json").exists()
