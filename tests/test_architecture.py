"""What ``docs/architecture.md`` promises about the tree and the imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("envs", "baselines", "agents", "experiments", "pals_gym")
MAY_IMPORT = {
    "envs": {"envs"},
    "baselines": {"envs", "baselines"},
    "agents": {"envs", "baselines", "agents"},
    "experiments": {"envs", "baselines", "agents", "experiments"},
    "pals_gym": set(PACKAGES),
}
BELOW_ALL = "pals_gym.names"
"""It imports nothing of the project: it tells where another package hides one of ours."""


@cache
def modules() -> dict[str, Path]:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return {module_name(file): file for file in files}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> set[str]:
    """Names of this project's modules that a file imports, inside functions too."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in executed(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else node.module)
    return {name for name in found if name.split(".")[0] in PACKAGES}


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from executed(node)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_downwards_only(package):
    for name, file in modules().items():
        if name.split(".")[0] == package:
            for other in imports(file) - {BELOW_ALL}:
                assert other.split(".")[0] in MAY_IMPORT[package], f"{name} imports {other}"


def test_no_modules_import_each_other():
    graph = {name: imports(file) for name, file in modules().items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_core_of_the_environments_knows_no_simulator():
    core = {name for name in modules() if name.startswith("envs.") and name.count(".") == 1}
    core = {name for name in core if modules()[name].name != "__init__.py"}
    core -= {"envs.factory"}  # what gymnasium.make calls; it imports the simulator when called
    assert len(core) > 10
    for name in core:
        for other in imports(modules()[name]):
            assert not other.startswith("envs.simulator"), f"{name} imports {other}"


def test_no_code_but_that_of_tests_uses_what_is_for_tests():
    for name, file in modules().items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            named = [node.module] if isinstance(node, ast.ImportFrom) else []
            named += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for other in named:
                assert str(other).split(".")[0] not in ("unittest", "pytest"), f"{name}: {other}"


def test_import_envs_is_light():
    heavy = "numba torch sklearn pandas aiohttp hydra matplotlib scipy pyarrow wandb joblib"
    code = f"import sys, envs; print([n for n in {heavy.split()!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_tree_in_the_documentation_is_there():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = re.search(r"```\n(conf/.*?)```", page, re.DOTALL)
    assert tree is not None
    folder, named = "", 0
    for line in tree.group(1).splitlines():
        inside = line.startswith("  ")
        if not inside:
            folder = line.split()[0]
            assert (ROOT / folder).is_dir(), folder
        for entry in re.findall(r"\b([a-z_]+(?:/|\.py))(?=[\s:;,]|$)", line):
            known = (ROOT / entry).exists() or list((ROOT / folder).rglob(entry.rstrip("/")))
            assert known, f"{folder}{entry}"
            named += 1
    assert named > 20


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"])
def test_no_section_of_the_documentation_is_empty(page):
    text = re.sub(
        r"^```.*?^```", "a block of code", page.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    parts = re.split(r"^(#{1,6}) (.*)$", text, flags=re.MULTILINE)
    heads, titles, bodies = parts[1::3], parts[2::3], parts[3::3]
    for index, (title, body) in enumerate(zip(titles, bodies, strict=True)):
        parent = index + 1 < len(heads) and len(heads[index + 1]) > len(heads[index])
        words = body.split()
        assert parent or len(words) > 1, f"{page.name}: {title!r} says nothing"
        assert not re.fullmatch(r"[A-Z]{3,}|TODO.*|TBD.*", body.strip()), f"{page.name}: {title!r}"


def test_the_glossary_is_sorted_and_has_one_line_per_term():
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\| (.+?) \| .+ \|$", page, flags=re.MULTILINE)[1:]
    assert terms == sorted(terms, key=str.casefold)
    assert len(terms) == len(set(terms)) > 40


def test_composed_configurations_end_in_one_room():
    """Below ``experiments/app`` there are scenarios and options, no nodes of OmegaConf."""
    strangers = [
        name
        for name, file in modules().items()
        if name.split(".")[0] != "envs"
        and not name.startswith("experiments.app")
        and "DictConfig" in file.read_text(encoding="utf-8")
    ]
    assert strangers == []


NO_FILES_OF_JSON = {
    "agents.random_state", "agents.resumable", "baselines.pals.predictor", "envs.live.batch_limit",
    "envs.live.cap_helper.protocol", "envs.live.completion", "envs.live.devices.helped_nvml",
    "envs.live.devices.zeusd", "envs.live.guard", "envs.live.host", "envs.live.http_client",
    "envs.live.runtime_config", "envs.live.vllm_plugin.pals_batch_limit.route",
    "experiments.imitation.school", "experiments.measure_gpu.__main__",
    "experiments.measure_gpu.summary", "experiments.training.trainer", "experiments.watching.runs",
}  # fmt: skip
"""Messages of other processes, text within files that are read only as they were written, lines of
a journal that still grows, and the script that stands alone."""


def test_files_of_json_are_read_where_keys_cannot_stand_twice() -> None:
    plain = re.compile(r"\bjson\.loads?\(")
    loose = {name for name, file in modules().items() if plain.search(file.read_text())}
    assert loose - {"envs.strict_json"} == NO_FILES_OF_JSON


NOT_READ = {
    "data_sha256": "says which data a calibration was fitted to",
    "fitted_on": "says when",
    "interconnect": "names the link whose numbers stand beside it",
    "sm_clock_step_mhz": "from the data sheet; the clock is continuous in the simulator",
    "read_as": "is asked for by name where a model's file is read",
    "e2e_p50_s": "is a metric, not an option",
    "e2e_p99_s": "is a metric, not an option",
}
"""Fields of configurations that no code reads by name, and what they are for."""


def test_every_option_is_read() -> None:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in modules().values()]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    read = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    read |= {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    orphans = {
        part.target.id: node.name
        for node in nodes
        if isinstance(node, ast.ClassDef)
        and any("kw_only" in ast.unparse(own) for own in node.decorator_list)
        for part in node.body
        if isinstance(part, ast.AnnAssign)
        and isinstance(part.target, ast.Name)
        and part.target.id not in read
    }
    assert orphans.keys() == NOT_READ.keys(), orphans


def test_the_page_names_every_group_and_command() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = set(re.findall(r"\w+", page.partition("## The tree")[2].partition("\n## ")[0]))
    groups = {folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir()}
    own = {file.stem for file in (ROOT / "experiments").glob("[a-z]*.py")}
    parts = {
        folder.name
        for name in ("experiments", "envs")
        for folder in (ROOT / name).iterdir()
        if (folder / "__init__.py").is_file()
    } | {file.stem for file in (ROOT / "envs").glob("[a-z]*.py")}
    assert groups | own | parts <= tree, (groups | own | parts) - tree
