"""Tries cases in a process of its own, whose memory is bounded, and tells how each ended.

Reads a case per line as JSON and writes ``[class, message]``: ``accepted``, ``refused`` (an error
that is meant for users), ``raw`` (any other), ``memory`` or ``nonsense`` (a result that is no
number, or is not what was kept). A crash or a hang is seen by the process that started it.
"""

from __future__ import annotations

import base64
import json
import math
import os
import resource
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs.errors import PalsError
from envs.factory import make_env
from envs.kept_files import read_kept
from envs.scenario import Scenario

MOST_BYTES = 6 << 30
_STEPS = 3


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        case = json.loads(line)
        sys.stdout.write(json.dumps(outcome(case)) + "\n")
        sys.stdout.flush()


def outcome(case: Mapping[str, Any]) -> tuple[str, str]:
    """Tries one case."""
    try:
        problem = KINDS[case["kind"]](case)
    except PalsError as error:
        return ("refused", str(error)) if str(error).strip() else ("raw", "an error without words")
    except MemoryError as error:
        return "memory", str(error)
    except BaseException as error:
        return "raw", f"{type(error).__name__}: {error}"
    return ("nonsense", problem) if problem else ("accepted", "")


def configuration(case: Mapping[str, Any]) -> str:
    """Builds an environment of a scenario and steps it; returns what is no number."""
    env = make_env(Scenario.of(**case["parts"]))
    try:
        seen, _ = env.reset(seed=0)
        env.action_space.seed(0)
        for _ in range(_STEPS):
            seen, reward, _, _, info = env.step(env.action_space.sample())
            if not (np.isfinite(seen).all() and math.isfinite(float(reward))):
                return f"observation or reward: {seen}, {reward}"
            if not env.observation_space.contains(seen):
                return f"an observation outside its space: {seen}"
            telemetry = info["telemetry"]
            numbers = (telemetry.energy_gpu_j, telemetry.output_tokens, telemetry.duration_s)
            if not all(math.isfinite(number) and number >= 0 for number in numbers):
                return f"telemetry: {telemetry}"
    finally:
        env.close()
    return ""


def choice(case: Mapping[str, Any]) -> str:
    """Builds a choice of a group that is no part of a scenario; asks a controller for knobs."""
    from baselines.base import Controller
    from envs import catalog

    made = catalog.build(case["group"], case["parts"])
    if case["group"] != "controller" or type(made).prepare is not Controller.prepare:
        return ""
    env = make_env(Scenario(duration_s=5.0))
    try:
        made.bind(env.context)
        seen, _ = env.reset(seed=0)
        state = None
        for step in range(_STEPS):
            action, state = made.predict(seen, state, np.array([step == 0]))
            if not env.action_space.contains(np.asarray(action)):
                return f"an action outside the space: {action}"
            seen, *_ = env.step(action)
    finally:
        env.close()
    return ""


def bundle(case: Mapping[str, Any]) -> str:
    """Reads a bundle and lets its policy act."""
    from agents.bundle import load_policy, read_bundle
    from envs import catalog
    from envs.knobs import KnobLimits

    folder = Path(case["folder"])
    for name, content in case["files"].items():
        (folder / name).write_bytes(base64.b64decode(content))
    read = read_bundle(folder)
    encoding = catalog.build("action", read.action)
    caps = np.linspace(100.0, 400.0, min(int(read.grid["power_caps"]), 64)).tolist()
    encoding.bind(KnobLimits(100.0, 400.0, 64, 500.0, 1500.0), caps)
    policy = load_policy(folder, read, encoding.space, "cpu")
    seen = np.zeros(len(read.observation), dtype=np.float32)
    action, _ = policy.predict(seen, deterministic=True)
    return "" if np.isfinite(np.asarray(action, dtype=float)).all() else f"action {action}"


def kept(case: Mapping[str, Any]) -> str:
    """Reads a file of the cache; whatever is returned must be what was kept."""
    os.environ["PALS_CACHE"] = case["folder"]
    file = Path(case["folder"]) / "kinds" / case["name"]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(base64.b64decode(case["content"]))
    found = read_kept("kinds", case["name"])
    whole = base64.b64decode(case["whole"])
    return "" if found in (None, whole) else "a content that was not kept"


def profile(case: Mapping[str, Any]) -> str:
    """Reads a profile."""
    from experiments.profiling.store import read_profile

    file = Path(case["folder"]) / "profile.json"
    file.write_bytes(base64.b64decode(case["content"]))
    for row in read_profile(file).rows:
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in row):
            return f"row {row}"
    return ""


def summary(case: Mapping[str, Any]) -> str:
    """Looks whether a run is there that need not be made again."""
    from experiments.runs.kept_runs import kept_run
    from experiments.runs.options import RunOptions

    folder = Path(case["folder"])
    (folder / "summary.json").write_bytes(base64.b64decode(case["content"]))
    options = RunOptions(controller="static", controller_name="static")
    found = kept_run(Scenario(duration_s=10.0), options, folder).summary
    whole = json.loads(base64.b64decode(case["whole"]))
    return "" if found in (None, whole) else "a summary that was not written"


def misused(case: Mapping[str, Any]) -> str:
    """Uses an environment otherwise than meant."""
    from fuzz.misuse import misuse

    return misuse(case)


KINDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "choice": choice,
    "configuration": configuration,
    "misuse": misused,
    "bundle": bundle,
    "kept": kept,
    "profile": profile,
    "summary": summary,
}

if __name__ == "__main__":
    main()
