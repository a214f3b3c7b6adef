from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import pytest
from support.caches import own_cache

from envs import catalog
from envs.catalog.targets import configuration_class
from experiments.app import schemas
from experiments.app.composition import typed

SHORT = ("duration=60", "profile.settle_s=5", "profile.measure_s=10")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this session's own, shared by its tests."""
    folder = own_cache(tmp_path_factory.getbasetemp() / "experiments-cache")
    patch = pytest.MonkeyPatch()
    patch.setenv("PALS_CACHE", str(folder))
    yield folder
    patch.undo()


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = own_cache(tmp_path / "cache")
    monkeypatch.setenv("PALS_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def compose() -> Callable[..., Any]:
    """Composes a configuration as the commands get it, with short runs."""
    schemas.register()

    def composed(*overrides: str, name: str = "run") -> Any:
        with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
            node = hydra.compose(name, [*SHORT, *overrides])
            return typed(configuration_class(str(node["_target_"])), node)

    return composed


class Outcome(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Runs an application in this process, with ``tmp_path/out`` as its folder."""

    def run(app: Callable[[], None], *arguments: str) -> Outcome:
        folder = [f"hydra.run.dir={tmp_path / 'out'}", f"hydra.sweep.dir={tmp_path / 'out'}"]
        flags = [text for text in arguments if text.startswith("-")]
        rest = [text for text in arguments if not text.startswith("-")]
        monkeypatch.setattr(sys, "argv", ["command", *flags, *folder, *rest])
        capfd.readouterr()
        code = 0
        try:
            app()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return Outcome(code, *capfd.readouterr())

    return run
