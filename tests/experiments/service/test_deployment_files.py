"""The dashboard asks for metrics that the service has, the unit for a command that there is."""

from __future__ import annotations

import configparser
import json
import re
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


def test_the_unit_starts_the_command_and_keeps_what_was_found() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "deploy" / "pals-control.service")
    service = unit["Service"]
    module = re.search(r"-m (\S+)", service["ExecStart"])
    assert module is not None
    assert (ROOT / (module[1].replace(".", "/") + ".py")).is_file()
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert service["KillMode"] == "process"  # the guard must outlive its controller
    assert "PALS_RUN_DIR=/run/pals-gym" in service["Environment"]
    assert service["RuntimeDirectory"] == "pals-gym"
