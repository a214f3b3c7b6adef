"""The dashboard asks for metrics that the service has, the unit for a command that there is."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from experiments.service.exposition import COUNTERS, GAUGES, Exposition

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def exported() -> set[str]:
    """Names of all metrics of a service that has run."""
    exposition = Exposition(0.5)
    columns = [column for column, _ in (*GAUGES.values(), *COUNTERS.values())]
    exposition.interval(dict.fromkeys(columns, 1.0), changed=True)
    exposition.reloaded("refused")
    families = text_string_to_metric_families(exposition.text().decode())
    return {sample.name for family in families for sample in family.samples}


def test_every_query_of_the_dashboard_names_metrics_that_are_exported(exported: set[str]) -> None:
    board = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    named = {name for query in queries for name in re.findall(r"\bpals_\w+", query)}
    assert len(named) > 20
    assert named <= exported
    told = {name for name in exported if not name.endswith("_created")}
    assert told <= named  # and nothing that is exported is left out


def unit(name: str) -> configparser.SectionProxy:
    """Returns the part of a systemd unit that says how the service runs."""
    read = configparser.RawConfigParser(strict=False)
    read.optionxform = str  # type: ignore[assignment, method-assign]
    read.read(ROOT / "deploy" / name)
    return read["Service"]


def test_the_unit_starts_the_command_and_keeps_what_was_found() -> None:
    service = unit("pals-control.service")
    module = re.search(r"-m (\S+)", service["ExecStart"])
    assert module is not None
    assert (ROOT / (module[1].replace(".", "/") + ".py")).is_file()
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert service["KillMode"] == "process"  # the guard must outlive its controller
    assert "PALS_RUN_DIR=/run/pals-gym" in service["Environment"]
    assert service["RuntimeDirectory"] == "pals-gym"


def test_the_helpers_unit_starts_the_helper_with_options_that_it_has() -> None:
    from envs.live.cap_helper.__main__ import _parser

    service = unit("pals-cap-helper.service")
    command = service["ExecStart"].split()
    assert command[1:3] == ["-m", "envs.live.cap_helper"]
    filled = [{"${GPUS}": "0,1", "${CONTROLLER}": "0"}.get(word, word) for word in command[3:]]
    bounds = ["--floor-w", "200", "--ceiling-w", "350"]
    assert filled.pop() == "$BOUNDS"
    options = _parser().parse_args(filled + bounds)
    assert (options.gpus, options.user, options.floor_w) == ("0,1", ["0"], 200.0)
    assert str(options.socket) == f"/run/{service['RuntimeDirectory']}/socket"
    assert service["Restart"] == "always"  # a helper that was killed has left caps
    assert "CAP_SYS_ADMIN" in service["CapabilityBoundingSet"]


def test_beside_the_helper_the_controller_has_no_rights() -> None:
    service = unit("pals-control-unprivileged.conf")
    assert service["User"] == "pals"
    assert service["CapabilityBoundingSet"] == ""
    assert service["Environment"] == f"PALS_RUN_DIR=/run/{service['RuntimeDirectory']}"


def test_the_image_is_built_of_what_there_is_and_starts_the_command() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert {line.split()[0] for line in lines} <= {
        "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK",
        "ENTRYPOINT", "CMD",
    }  # fmt: skip
    copied = {
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert all((ROOT / source).exists() for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in packages} <= copied
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    entry = json.loads(
        next(line for line in lines if line.startswith("ENTRYPOINT")).split(" ", 1)[1]
    )
    assert entry[1:3] == ["-m", "experiments.control"]
    # Options must come before all overrides, also before those that follow the image's name.
    assert [word.startswith("--") for word in entry[3:5]] == [True, False]
    assert all("=" in word for word in entry[5:])
    (user,) = {line.split()[1] for line in lines if line.startswith("USER ")}
    assert user not in ("0", "root")  # caps are set by the helper
    folders = re.findall(r"PALS_\w+=(\S+)", text)
    made = next(line for line in lines if line.startswith("RUN install")).split()
    assert entry[4] + "/experiment" in made
    assert set(folders) <= set(made)
