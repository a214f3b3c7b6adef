"""What computes a number is hashed: this project's code, a user's packages, libraries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envs import catalog, imports, sources

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    sources._source_hash.cache_clear()
    sources.library_versions.cache_clear()


def package(folder: Path, name: str, **files: str) -> Path:
    home = folder / name
    home.mkdir()
    (home / "__init__.py").touch()
    for file, text in files.items():
        (home / file.replace("_dot_", ".")).write_text(text)
    return home


def hash_of(name: str) -> str:
    sources._source_hash.cache_clear()
    return sources.source_hash([name])


def test_every_package_of_the_project_counts(tmp_path: Path) -> None:
    """A change of any of them, such as of a rule in ``baselines``, is another code."""
    names = ("envs", "baselines", "agents", "experiments", "conf")
    for name in names:
        (tmp_path / name).symlink_to(ROOT / name)
    code = "import envs.sources as s; print(s.code_hash())"

    def current() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    before = current()
    assert before == sources.code_hash()
    for name, rule in (("baselines", "governor.py"), ("agents", "shield.py")):
        (tmp_path / name).unlink()
        copy = tmp_path / name
        shutil.copytree(ROOT / name, copy)
        assert current() == before
        with (copy / rule).open("a") as file:
            file.write("EDITED = 1\n")
        after = current()
        assert after != before
        before = after


def test_an_allowed_package_counts_with_all_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    home = package(tmp_path, "own_rules", rule_dot_py="A = 1", table_dot_csv="1,2")
    assert sources.packages_hash() is None
    before_all = sources.computation_hash()
    catalog.allow_package("own_rules")
    seen = {sources.packages_hash()}
    assert sources.computation_hash() != before_all
    (home / "rule.py").write_text("A = 2")
    seen.add(hash_of("own_rules"))
    (home / "table.csv").write_text("1,3")
    seen.add(hash_of("own_rules"))
    (home / "more").mkdir()
    (home / "more" / "deep.py").write_text("B = 1")
    seen.add(hash_of("own_rules"))
    assert len(seen) == 4
    before = hash_of("own_rules")
    (home / "__pycache__").mkdir()
    (home / "__pycache__" / "rule.pyc").write_text("bytecode")
    assert hash_of("own_rules") == before


def test_what_a_package_of_ones_own_imports_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller edited in a module beside its package would else have its old results."""
    monkeypatch.syspath_prepend(tmp_path)
    package(tmp_path, "importing_rules", rule_dot_py="def late():\n    import near_by.maths as m\n")
    home = package(tmp_path, "near_by", maths_dot_py="from far_by import A\nimport numpy, json\n")
    (tmp_path / "far_by.py").write_text("A = 1\nimport importing_rules, absent_by, pals_gym")
    (tmp_path / "broken_by.py").write_text("A = (")
    seen = {hash_of("importing_rules")}
    (home / "maths.py").write_text("from far_by import A as B\nimport numpy, json\n")
    seen.add(hash_of("importing_rules"))
    (tmp_path / "far_by.py").write_text("A = 2\nimport broken_by\n")
    seen.add(hash_of("importing_rules"))
    (tmp_path / "broken_by.py").write_text("A = ((")
    seen.add(hash_of("importing_rules"))
    assert len(seen) == 4
    assert hash_of("importing_rules") in seen
    assert "numpy" not in imports.own_imports(["importing_rules"], frozenset())
    assert "near_by" not in sys.modules


def test_a_module_of_one_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "single_rule.py").write_text("A = 1")
    before = hash_of("single_rule")
    assert hash_of("single_rule") == before
    (tmp_path / "single_rule.py").write_text("A = 2")
    assert hash_of("single_rule") != before


def test_code_without_a_file_is_never_taken_for_the_same_in_another_process() -> None:
    code = "import envs.sources as s; print(s.source_hash(['__main__']))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 2


def test_another_version_of_a_library_is_another_computation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = sources.computation_hash()
    real = sources.metadata.version
    for library in ("numpy", "numba", "torch", "stable-baselines3", "scikit-learn"):

        def older(name: str, of: str = library) -> str:
            return "0.1" if name == of else real(name)

        with monkeypatch.context() as patch:
            patch.setattr(sources.metadata, "version", older)
            sources.library_versions.cache_clear()
            assert sources.computation_hash() != before, library
        sources.library_versions.cache_clear()
    assert sources.computation_hash() == before


def test_hashes_do_not_depend_on_the_folder_a_program_is_started_in(tmp_path: Path) -> None:
    code = "import envs.sources as s; print(s.code_hash())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.strip() == sources.code_hash()
