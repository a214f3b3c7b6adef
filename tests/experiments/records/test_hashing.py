"""Keys of results follow the content of what is read, not its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from envs import sources
from envs.errors import ConfigurationError
from experiments.records.hashing import digest


def model_folder(folder: Path, layers: int = 2) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": layers}))
    return folder


def test_a_hash_follows_the_content_of_files(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("a")
    for key in ("path", "profile_path", "trace_file", "file"):
        file.write_text("a")
        before = digest({"workload": {key: str(file)}})
        assert digest({"workload": {key: str(file)}}) == before
        file.write_text("b")
        assert digest({"workload": {key: str(file)}}) != before


def test_a_hash_follows_the_files_in_a_folder(tmp_path: Path) -> None:
    model: Any = {"model": {"path": str(model_folder(tmp_path / "model"))}}
    seen = {digest(model)}
    model_folder(tmp_path / "model", layers=3)
    seen.add(digest(model))
    (tmp_path / "model" / "hf_quant_config.json").write_text("{}")
    seen.add(digest(model))
    (tmp_path / "model" / "nested").mkdir()
    (tmp_path / "model" / "nested" / "more.json").write_text("{}")
    seen.add(digest(model))
    assert len(seen) == 4
    (tmp_path / "model" / ".cache").write_text("of a downloader")
    assert digest(model) in seen


def test_a_relative_path_is_the_file_of_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trace.csv").write_text(name)
        monkeypatch.chdir(tmp_path / name)
        found.add(digest({"path": "trace.csv"}))
    assert len(found) == 2


def test_a_folder_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.records.hashing._MOST_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}").touch()
    with pytest.raises(ConfigurationError, match=r"path: .*more than 3 files"):
        digest({"path": str(tmp_path)})


def test_a_downloaded_trace_counts_by_its_content(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envs.workloads.mooncake import Mooncake

    monkeypatch.delenv("PALS_DATA", raising=False)
    workload = {"_target_": "envs.workloads.mooncake.Mooncake", "path": None}
    seen = {digest(workload)}
    assert Mooncake.public_file is not None
    file = Mooncake.public_file.download_path
    file.parent.mkdir(parents=True)
    for text in ("one", "two"):
        file.write_text(text)
        seen.add(digest(workload))
    assert len(seen) == 3


def test_ones_own_class_counts_by_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects come from Python, too, where no package has to be allowed."""
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "my_workloads.py"
    found = set()
    for text in ("A = 1", "A = 2"):
        module.write_text(text)
        sources._source_hash.cache_clear()
        found.add(digest({"workload": {"_target_": "my_workloads.Mine", "load": 0.5}}))
    assert len(found) == 2
