"""``make results``: every step composes at every scale, and stale pages are told."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import warnings
from pathlib import Path

import hydra
import pytest

from envs import catalog
from experiments.app import schemas
from experiments.app.paths import with_paths
from experiments.app.replacement import with_replacements
from experiments.records.page_stamps import stamps_below

ROOT = Path(__file__).resolve().parents[1]
SCALES = ("short", *(pytest.param(name, marks=pytest.mark.long) for name in ("medium", "full")))


def printed(tmp_path: Path, *words: str) -> str:
    """Returns what make would run, without running it."""
    done = subprocess.run(
        ["make", "-n", "-f", "Makefile", f"RESULTS={tmp_path}", *words],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
        env={**os.environ, "MAKEFLAGS": ""},
    )  # fmt: skip
    return done.stdout + done.stderr


def steps() -> list[str]:
    text = (ROOT / "results.mk").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^(?:ORIGINS|STEPS) := (.*)$", text, re.MULTILINE)
    assert len(found) == 2
    return [step for line in found for step in line.split()]


@pytest.mark.parametrize("scale", SCALES)
def test_every_step_composes(scale: str, tmp_path: Path) -> None:
    text = printed(tmp_path, f"SCALE={scale}", *(f"{tmp_path}/{step}.done" for step in steps()))
    lines = re.findall(
        r"time { \S+ -m ((?:experiments|examples|benchmarks)\.\S+ ?.*?)(?: &&.*)?; } >\S+\.log",
        text,
    )
    assert len(lines) >= len(steps()) - 3, text  # without measured data three are skipped
    schemas.register()
    for line in lines:
        command, *words = shlex.split(line)
        name = command.removeprefix("experiments.")
        if (catalog.CONF_DIR / f"{name}.yaml").is_file():
            with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
                assert hydra.compose(name, with_replacements(with_paths(words)))


@pytest.mark.long
def test_a_step_is_done_once_and_stamps_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n", encoding="utf-8")
    words = [
        "make", f"{tmp_path}/speed.done", f"RESULTS={tmp_path}", "SCALE=short", "speed.words=",
        "speed.command=experiments.list_metrics", f"speed.pages={page}",
    ]  # fmt: skip
    told = [
        subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=900)
        for _ in range(2)
    ]
    assert "speed: done in" in told[0].stdout
    assert "speed: done in" not in told[1].stdout
    assert "# Metrics" in (tmp_path / "speed.log").read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert "step `speed`, at short scale in" in text
    assert text.count("<!-- made speed by experiments.list_metrics code ") == 1


@pytest.mark.long
def test_a_step_that_fails_is_not_done(tmp_path: Path) -> None:
    words = ["make", f"{tmp_path}/speed.done", f"RESULTS={tmp_path}", "speed.words=steps=nonsense"]
    words += ["speed.command=experiments.run", "speed.pages="]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode
    assert "speed: failed" in done.stdout
    assert not (tmp_path / "speed.done").exists()


def test_a_step_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "there is no step benchmrk; there are" in printed(tmp_path, "results", "ONLY=benchmrk")
    assert "there are short, medium and full" in printed(tmp_path, "results", "SCALE=tiny")


def test_the_agents_are_made_by_the_commands_that_their_cards_name(tmp_path: Path) -> None:
    text = printed(tmp_path, f"{tmp_path}/agent.done")
    for bundle in (ROOT / "agents" / "bundles").iterdir():
        card = (bundle / "card.md").read_text(encoding="utf-8")
        named = re.search(r"`python (-m experiments\.imitate.*?)` makes it again", card)
        assert named is not None, bundle.name
        made = re.search(
            rf"{re.escape(named[1])} hydra\.run\.dir=(\S+) && cp -r (\S+)/bundle/\. "
            rf"agents/bundles/{bundle.name}/",
            text,
        )
        assert made is not None, text
        assert made[1] == made[2]


def test_without_measured_data_steps_are_skipped_with_the_reason(tmp_path: Path) -> None:
    text = printed(tmp_path, "DATA=", "AZURE=", f"{tmp_path}/physics.done")
    assert "physics: skipped: its measured data are not here" in text
    text = printed(tmp_path, "DATA=", "AZURE=", f"{tmp_path}/benchmark.done")
    assert "suite.only=[steady_40," in text
    assert "azure" not in text


@pytest.mark.parametrize("step", ["calibrations", "physics"])
def test_the_key_of_a_step_has_all_the_data_that_it_reads(step: str, tmp_path: Path) -> None:
    text = printed(tmp_path, f"DATA={tmp_path}", f"{tmp_path}/{step}.done")
    (read,) = set(re.findall(r" data=(\S+)", text.partition("experiments.pages key")[2]))
    keyed = re.search(r"--data (.*?) >", text)
    assert keyed is not None, text
    assert (
        keyed[1].split() == read.strip('"').split(":") == [str(tmp_path), "docs/measurements/h100"]
    )


def test_pages_are_current() -> None:
    """Names the pages that other code made; fails for them where ``PALS_STALE=fail``."""
    stale = [stamp for stamp in stamps_below(ROOT / "docs") if not stamp.is_current]
    lines = [f"{stamp.page.name}: step {stamp.step}, code {stamp.code}" for stamp in stale]
    if lines:
        warnings.warn(f"made by other code than this: {'; '.join(lines)}", stacklevel=1)
    assert not lines or os.environ.get("PALS_STALE") != "fail", lines
