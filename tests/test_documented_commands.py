"""Every command of every page composes, and the short ones of the pages for newcomers run."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from support.caches import own_cache

from envs import catalog
from experiments.app import schemas
from experiments.app.command_list import commands, entry
from experiments.app.paths import with_paths
from experiments.app.replacement import with_replacements

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *(f"docs/{name}.md" for name in ("quickstart", "first_agent", "howto")))
OTHERS = sorted(
    str(page.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "docs/lab/*.md", "docs/measurements/*/*.md")
    for page in ROOT.glob(pattern)
    if str(page.relative_to(ROOT)) not in PAGES
)
SHORT = {
    "run": ("duration=10",),
    "compare": ("duration=10", "seeds=1", "controllers=[static,governor]"),
    "train": ("agent.steps=4096", "agent.servers=32", "evaluate_every=4096"),
    "benchmark": None,
    "control": None,
}
"""What makes a command short; ``None`` where nothing does."""
ELSEWHERE = ("server=vllm", "server.url", "DIR", "my_", "/path/to", "gpu=NAME", "azure_conv")
"""What a command names that is not on every machine."""


PLACEHOLDERS = ("experiments.NAME", "gpu=X", "model=FILE", "hydra/launcher=submitit_slurm")
"""What stands for something else, or needs a package that is no dependency."""


def documented(pages: Iterable[str]) -> Iterator[str]:
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
        kind: str | None = None
        lines = []
        for line in text.splitlines():
            if line.startswith("```"):
                kind = line.removeprefix("```") if kind is None else None
            elif kind in ("", "sh"):
                lines.append(line)
        lines += re.findall(r"`((?:pals|python -m experiments\.)[^`]+)`", text)
        for line in lines:
            command = re.sub(r"^[A-Z_]+=\w+ ", "", " ".join(line.split())).partition(" > ")[0]
            elided = any(dots in command for dots in ("…", "...", *PLACEHOLDERS))
            if re.match(r"pals \w|python -m experiments\.\w", command) and not elided:
                yield command


COMMANDS = sorted(set(documented(PAGES)))


def taken_apart(line: str) -> tuple[str, list[str]]:
    """Returns the command's name and its arguments."""
    words = shlex.split(line, comments=True)
    if words[0] == "pals":
        return words[1], words[2:]
    return words[2].removeprefix("experiments."), words[3:]


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) > 15
    assert {"run", "compare", "train", "control", "describe"} <= {
        taken_apart(line)[0] for line in COMMANDS
    }


@pytest.mark.parametrize("line", sorted({*COMMANDS, *documented(OTHERS)}))
def test_a_documented_command_composes(line: str) -> None:
    name, arguments = taken_apart(line)
    assert name in commands(), line
    if not (catalog.CONF_DIR / f"{name}.yaml").is_file() or "--help" in arguments:
        return
    own = [text for text in arguments if not text.startswith(("-", "hydra.searchpath"))]
    own = [text for text in own if text not in ("controller=halved", "gpu=NAME")]
    if "-m" in arguments:  # the first job of the sweep
        own = [text if "[" in text else text.partition(",")[0] for text in own]
    schemas.register()
    with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        assert hydra.compose(name, with_replacements(with_paths(own)))


@pytest.mark.long
@pytest.mark.parametrize(
    "line",
    [
        line
        for line in COMMANDS
        if SHORT.get(taken_apart(line)[0]) and not any(word in line for word in ELSEWHERE)
    ],
)
def test_a_documented_command_runs(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    name, arguments = taken_apart(line)
    if "--help" not in arguments:
        folders = ("hydra.run.dir", "hydra.sweep.dir")
        arguments += [*(SHORT[name] or ()), *(f"{key}={tmp_path / 'out'}" for key in folders)]
    monkeypatch.setenv("PALS_CACHE", str(own_cache(tmp_path / "cache")))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    main: Callable[[], Any] = entry(name)
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    assert not code, capfd.readouterr().err


@pytest.mark.parametrize("target", ["run", "test", "docs"])
def test_the_targets_of_the_readme_are_there(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
