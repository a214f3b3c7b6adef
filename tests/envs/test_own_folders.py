"""Choices in folders of a user's own are found by name, after ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from baselines.static import Static
from envs import catalog
from envs.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with controllers of its own, added to those that are searched."""
    own = tmp_path / "conf" / "controller"
    own.mkdir(parents=True)
    (own / "halved.yaml").write_text(
        "# Half the power.\n"
        "defaults:\n  - /schema/baselines/static/Static@_here_\n  - _self_\n"
        "power_cap_w: 200\n"
    )
    (own / "quarter.yaml").write_text("defaults:\n  - halved\n  - _self_\npower_cap_w: 100\n")
    (own / "patient.yaml").write_text("defaults:\n  - governor\n  - _self_\nlow: 0.25\n")
    (own / "static.yaml").write_text("defaults:\n  - halved\n")
    catalog.add_folder(tmp_path / "conf")
    return tmp_path / "conf"


def test_a_choice_of_ones_own_is_found_by_name(folder: Path) -> None:
    assert {"halved", "quarter", "patient", "pals"} <= set(catalog.names("controller"))
    assert catalog.choice_file("controller", "halved") == folder / "controller" / "halved.yaml"
    assert catalog.load("controller", "halved")["power_cap_w"] == 200
    assert catalog.build("controller", "halved") == Static(power_cap_w=200.0)


def test_a_file_begins_with_one_beside_it_or_one_of_ours(folder: Path) -> None:
    assert catalog.build("controller", "quarter") == Static(power_cap_w=100.0)
    ours, patient = (catalog.build("controller", name) for name in ("governor", "patient"))
    assert type(patient) is type(ours)
    assert (patient.low, patient.high) == (0.25, ours.high)


def test_a_name_that_is_ours_stays_ours(folder: Path) -> None:
    assert catalog.build("controller", "static") == Static()
    assert catalog.names("controller").count("static") == 1


def test_folders_are_kept_once_for_the_processes_that_are_started(
    folder: Path, tmp_path: Path
) -> None:
    catalog.add_folder(tmp_path / "other")
    catalog.add_folder(folder)
    kept = os.environ[catalog.FOLDERS_VARIABLE].split(os.pathsep)
    assert kept == [str(folder), str(tmp_path / "other")]


@pytest.mark.parametrize("name", ["../controller/static", "/etc/passwd", "", "nothing"])
def test_a_name_that_is_no_choice_has_no_file(name: str) -> None:
    assert catalog.choice_file("controller", name) is None
    with pytest.raises(ConfigurationError, match="controller: no choice named"):
        catalog.load("controller", name)


@pytest.mark.parametrize(
    ("defaults", "reason"),
    [
        ("governer", "controller: no choice named 'governer'; did you mean 'governor'"),
        ("/workload/poisson_gsm9k", "workload: no choice named 'poisson_gsm9k'; did you mean"),
        ("../../secret", "no choice named '../../secret'"),
    ],
)
def test_what_a_file_begins_with_is_named_where_it_is_not_there(
    folder: Path, defaults: str, reason: str
) -> None:
    (folder / "controller" / "typo.yaml").write_text(f"defaults:\n  - {defaults}\n  - _self_\n")
    with pytest.raises(ConfigurationError, match=reason):
        catalog.load("controller", "typo")


def test_a_file_begins_as_hydra_lets_it(folder: Path) -> None:
    """By a group's whole name, and with a part of another name than its own."""
    (folder / "controller" / "absolute.yaml").write_text("defaults:\n  - /controller/halved\n")
    assert catalog.build("controller", "absolute") == Static(power_cap_w=200.0)
    (folder / "workload").mkdir()
    (folder / "workload" / "long.yaml").write_text(
        "defaults:\n  - poisson_gsm8k\n  - override /workload/lengths@lengths: long_output\n"
    )
    long, usual = (catalog.build("workload", name) for name in ("long", "long_output"))
    assert long.lengths == usual.lengths
