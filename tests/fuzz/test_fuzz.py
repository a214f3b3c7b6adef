"""No configuration and no file crashes, hangs, eats the memory, or gives an error or nonsense raw.

A slice runs with the other tests; ``make fuzz`` tries 10,000 configurations, 3,000 choices of
groups that are no part of a scenario (controllers, agents, mixtures, suites, ...), 5,000 files and
2,000 orders of calls, or as many as ``PALS_FUZZ_CONFIGURATIONS``, ``PALS_FUZZ_CHOICES``,
``PALS_FUZZ_FILES`` and ``PALS_FUZZ_USES`` say, and ``PALS_FUZZ_SEED=N`` others than last time.
"""

from __future__ import annotations

import base64
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from agents.bundle import SHIPPED
from baselines.profile import Profile, ProfileRow
from envs import catalog
from envs.kept_files import keep
from envs.scenario import Scenario
from experiments.evaluation.metrics import write_json
from experiments.profiling.store import write_profile
from experiments.records.provenance import content_hash, provenance
from experiments.runs.options import RunOptions, run_record
from fuzz.misuse import MAKERS, USES
from fuzz.trials import Trials

SEED = int(os.environ.get("PALS_FUZZ_SEED", "0"))
MANY = {
    kind: int(os.environ.get(f"PALS_FUZZ_{kind}", usual))
    for kind, usual in (
        ("CONFIGURATIONS", 10_000),
        ("CHOICES", 3_000),
        ("FILES", 5_000),
        ("USES", 2_000),
    )
}
GROUPS = ("model", "gpu", "workload", "objective", "action", "reward", "server")
OTHERS = ("controller", "agent", "mixture", "suite", "executor", "tracker")
"""Groups that are no part of a scenario; their choices are built, and controllers asked."""
LIVE = {"server": {"simulated"}}
"""Choices of groups that have others which need a server."""
FILES = {"huggingface"}
"""Choices that need a file."""
NUMBERS = st.one_of(
    st.sampled_from(
        [0, -1, 1, 2, 0.0, -0.0, 1e-6, 1e-300, 5e-324, 1e9, 1e18, 1e300, 2**31 - 1, 2**31, 2**32,
         2**63 - 1, 2**63, -(2**63), float("nan"), float("inf"), float("-inf"), 0.5, 1.5]
    ),
    st.integers(-(2**70), 2**70),
    st.floats(),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=12),
              st.sampled_from(["nan", "1e400", "${oc.env:HOME}", "${x}", "???", "/dev/zero"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


def tried(count: int) -> Callable[[Any], Any]:
    """Tries a number of cases, one slice for each seed."""
    several = settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=False,
    )

    def decorate(function: Any) -> Any:
        return several(seed(SEED)(function))

    return decorate


@cache
def leaves(group: str, name: str) -> tuple[tuple[str, ...], ...]:
    """Returns the keys of a choice's values."""
    node: Any = OmegaConf.to_container(catalog.load(group, name), throw_on_missing=False)

    def below(value: Any, place: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield place
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key != "_target_":
                    yield from below(item, (*place, str(key)))

    return tuple(below(node, ()))[1:]


def change(draw: st.DrawFn, group: str, changes: dict[str, Any]) -> None:
    """Changes up to two values of a choice."""
    places = leaves(group, changes["base"])
    for _ in range(draw(st.integers(0, 2)) if places else 0):
        inner = changes
        *above, last = draw(st.sampled_from(places))
        for key in above:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                break
        else:
            inner[last] = draw(VALUES)


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    """Draws a choice that is no part of a scenario, with some values changed."""
    group = draw(st.sampled_from(OTHERS))
    parts = {"base": draw(st.sampled_from(sorted(catalog.names(group))))}
    change(draw, group, parts)
    return {"group": group, "parts": parts}


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """Draws a scenario of named choices with some values changed."""
    parts: dict[str, Any] = {"duration_s": 5.0}
    for _ in range(draw(st.integers(1, 3))):
        group = draw(st.sampled_from(GROUPS))
        names = {*catalog.names(group)} & LIVE.get(group, {*catalog.names(group)}) - FILES
        change(draw, group, parts.setdefault(group, {"base": draw(st.sampled_from(sorted(names)))}))
    if draw(st.integers(0, 9)) == 0:
        parts[draw(st.sampled_from(["interval_s", "duration_s"]))] = draw(NUMBERS)
    return parts


def report(trials: Trials, wanted: int) -> None:
    """Checks that all cases ended well, and that there were as many as wanted."""
    count = sum(trials.classes.values())
    sys.stdout.write(
        f"{count} cases in {trials.seconds:.0f} s, {count / trials.seconds:.1f} a second: "
        f"{dict(trials.classes)}\n"
    )
    assert count >= wanted, trials.classes
    shown = [f"{kind}: {message[:200]} <- {str(case)[:600]}" for kind, message, case in trials.bad]
    assert not trials.bad, f"{dict(trials.classes)}\n" + "\n".join(shown[:20])
    assert trials.classes["refused"] > 0
    assert trials.classes["accepted"] > 0


def try_configurations(count: int) -> None:
    with Trials() as trials:

        @tried(count)
        @given(parts=scenarios())
        def one(parts: dict[str, Any]) -> None:
            trials.run({"kind": "configuration", "parts": parts})

        one()
        report(trials, count)


def try_choices(count: int) -> None:
    with Trials() as trials:

        @tried(count)
        @given(case=choices())
        def one(case: dict[str, Any]) -> None:
            trials.run({"kind": "choice", **case})

        one()
        report(trials, count)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Whole files, one case each."""
    folder = tmp_path_factory.mktemp("files")
    patch = pytest.MonkeyPatch()
    patch.setenv("PALS_CACHE", str(folder / "cache"))
    kept = keep("kinds", "key.npy", np.arange(8.0).tobytes())
    patch.undo()
    assert kept is not None
    row = ProfileRow(300.0, 16, 1, 1, 1, 900.0, 800.0, 250.0, 0.02, 0.1, 16.0, 500.0, 1400.0)
    write_profile(Profile((row, row), 1, 1, 1, "key"), folder)
    options = RunOptions(controller="static", controller_name="static")
    record = run_record(Scenario(duration_s=10.0), options)
    run: dict[str, Any] = {"controller": "static", "seed": 0, "provenance": provenance(record)}
    run["provenance"]["content_hash"] = content_hash(run)
    write_json(folder / "summary.json", run)
    shipped = SHIPPED / "ppo"
    names = ("bundle.json", "policy.pt")
    return [
        {"kind": "bundle", "files": {name: (shipped / name).read_bytes() for name in names}},
        {"kind": "kept", "name": "key.npy", "files": {"content": kept.read_bytes()},
         "whole": np.arange(8.0).tobytes()},
        {"kind": "profile", "files": {"content": (folder / "profile.json").read_bytes()}},
        {"kind": "summary", "files": {"content": (folder / "summary.json").read_bytes()},
         "whole": (folder / "summary.json").read_bytes()},
    ]  # fmt: skip


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Returns a content with something changed: bytes, length, or a value of JSON."""
    try:
        parsed: Any = json.loads(content)
    except ValueError:
        parsed = None
    if parsed is not None and rng.random() < 0.7:
        return json.dumps(changed_json(parsed, rng)).encode()
    kind = rng.randrange(6)
    place = rng.randrange(len(content) + 1)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + rng.randbytes(rng.randrange(1, 40)) + content[place:]
    if kind == 2:
        return b"[" * 200_000
    if kind == 3:
        return rng.randbytes(rng.randrange(0, 500))
    flipped = bytearray(content)
    for _ in range(rng.randrange(1, 9)):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**70, 1e308, float("nan"), "", "x", [], {}, [[]], {"a": {}},
    "/dev/zero", {"_target_": "os.system"}, "stable_baselines3.SAC", [1e9] * 50,
)  # fmt: skip


def changed_json(value: Any, rng: random.Random) -> Any:
    """Returns a value in which one place holds something else, or is missing."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: changed_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        index = rng.randrange(len(value))
        return [*value[:index], changed_json(value[index], rng), *value[index + 1 :]]
    return rng.choice(HOSTILE)


def try_files(files: list[dict[str, Any]], folder: Path, count: int) -> None:
    rng = random.Random(SEED)

    def text(content: bytes) -> str:
        return base64.b64encode(content).decode()

    with Trials() as trials:
        for number in range(count):
            whole = files[number % len(files)]
            contents = dict(whole["files"])
            if number >= len(files):  # the whole ones come first
                name = rng.choice(sorted(contents))
                contents[name] = mutated(contents[name], rng)
            case = {"kind": whole["kind"], "folder": str(folder), "name": whole.get("name")}
            if whole["kind"] == "bundle":
                case["files"] = {name: text(content) for name, content in contents.items()}
            else:
                case["content"] = text(contents["content"])
                case["whole"] = text(whole.get("whole", b""))
            kind = trials.run(case)
            if number < len(files):
                assert kind == "accepted", trials.bad or f"{whole['kind']} that is whole: {kind}"
        report(trials, count)


def try_uses(count: int) -> None:
    rng = random.Random(SEED)
    with Trials() as trials:
        for _ in range(count):
            uses = [(rng.choice(USES), rng.randrange(40)) for _ in range(rng.randrange(1, 9))]
            if rng.random() < 0.8:
                uses.insert(0, ("reset", rng.randrange(40)))
            trials.run({"kind": "misuse", "env": rng.choice(sorted(MAKERS)), "uses": uses})
        report(trials, count)


def test_some_uses_end_well() -> None:
    try_uses(40)


@pytest.mark.long
def test_a_night_of_uses_ends_well() -> None:
    try_uses(MANY["USES"])


def test_some_configurations_end_well() -> None:
    try_configurations(60)


def test_some_choices_end_well() -> None:
    try_choices(60)


def test_some_files_end_well(files: list[dict[str, Any]], tmp_path: Path) -> None:
    try_files(files, tmp_path, 200)


@pytest.mark.long
def test_a_night_of_configurations_ends_well() -> None:
    try_configurations(MANY["CONFIGURATIONS"])


@pytest.mark.long
def test_a_night_of_choices_ends_well() -> None:
    try_choices(MANY["CHOICES"])


@pytest.mark.long
def test_a_night_of_files_ends_well(files: list[dict[str, Any]], tmp_path: Path) -> None:
    try_files(files, tmp_path, MANY["FILES"])
