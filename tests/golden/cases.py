"""Short runs whose every metric is kept, and how two records of them are compared.

A run depends on no clock and on no random choice that its seed does not fix, so that metrics are
asked to be equal bit for bit. NumPy alone stands in the way: it picks its loops by the instruction
sets of the CPU, and the last bit of a logarithm or a power differs between them. ``golden.json``
says which sets it was made with; where others are found, numbers are compared with a tolerance.
Without AVX and FMA in numba, libm and torch the same bits came out: controllers choose from a
grid, and the network's and the forests' last bits do not reach the server.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
from pyarrow import parquet

from envs import catalog
from experiments.run import main
from experiments.training.mixture import Mixture

GOLDEN_FILE = Path(__file__).with_name("golden.json")
RENEW = "python -m tests.golden.renew"
TOLERANCE = 1e-9
"""How far numbers may be off, relatively, on a CPU of another kind."""

Metrics = dict[str, Any]
"""Metrics of one case by name: numbers, texts, and hashes of columns."""

SHORT = ("duration=60", "profile.settle_s=2", "profile.measure_s=5", "profile.tensor_parallel=[]")
RUNS: dict[str, tuple[str, ...]] = {
    "pals": (
        "controller=pals",
        "objective=moving_target",
        "objective.target.every_s=15",
        "seed=1",
    ),
    "governor": (
        "controller=governor",
        "objective=budget_steps",
        "objective.power_budget.every_s=15",
        "seed=2",
    ),
    "ppo": ("controller=ppo", "workload=bursty", "seed=3"),
    "kv_pressure": ("experiment=kv_pressure", "controller=governor", "duration=90", "seed=4"),
    "tpot_slo": ("experiment=tpot_slo", "controller=ppo", "seed=5"),
    "cluster": ("experiment=multi_node_qos", "controller=governor", "seed=6"),
}
"""Overrides of ``python -m experiments.run`` by case."""
VECTOR = "vector"
MIXTURE = "mixture"
CASES = (*RUNS, VECTOR, MIXTURE)

_SERVERS, _STEPS, _EPISODE_STEPS, _SEED = 4, 90, 60, 7
_DIGITS, _HASH = 16, "hash of "


def run_case(case: str, folder: Path) -> Metrics:
    """Runs a case and returns its metrics.

    Args:
        case: One of :data:`CASES`.
        folder: An empty folder for the run's files.
    """
    if case == VECTOR:
        return _vector()
    return _mixture() if case == MIXTURE else _run(RUNS[case], folder)


def simd_found() -> list[str]:
    """Returns the instruction sets of this CPU that NumPy picks its loops by."""
    config: Any = np.show_config(mode="dicts")
    return list(config["SIMD Extensions"].get("found", []))


def read_golden() -> tuple[dict[str, Metrics], bool]:
    """Returns the metrics that are kept, by case, and whether this CPU gives the same bits."""
    golden = json.loads(GOLDEN_FILE.read_text(encoding="utf-8"))
    return golden["cases"], golden["simd"] == simd_found()


def write_golden(cases: Mapping[str, Metrics]) -> None:
    """Keeps the metrics of all cases, and on which kind of CPU they were found."""
    text = json.dumps({"simd": simd_found(), "cases": cases}, indent=1, allow_nan=False)
    GOLDEN_FILE.write_text(f"{text}\n", encoding="utf-8")


def changes(case: str, kept: Metrics, found: Metrics, *, exact: bool) -> list[str]:
    """Returns a line for every metric that is not what was kept.

    Args:
        case: Name of the case.
        kept: Its metrics in ``golden.json``.
        found: Its metrics now.
        exact: Whether every bit counts. If not, numbers may differ by :data:`TOLERANCE`, and
            hashes are not looked at: the sums beside them are.
    """
    lines = []
    for name in dict.fromkeys([*kept, *found]):
        old, new = kept.get(name, "no such metric"), found.get(name, "no such metric")
        if not exact and name.startswith(_HASH):
            continue
        if not (_same(old, new) if exact else _close(old, new)):
            lines.append(f"{case}: {name}: {json.dumps(old)} -> {json.dumps(new)}")
    return lines


def _same(old: Any, new: Any) -> bool:
    return json.dumps(old) == json.dumps(new)


def _close(old: Any, new: Any) -> bool:
    if isinstance(old, int | float) and isinstance(new, int | float):
        return math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return _same(old, new)


def _run(overrides: tuple[str, ...], folder: Path) -> Metrics:
    """Runs one controller as ``python -m experiments.run`` does; where it is from is left out."""
    with patch.object(sys, "argv", ["run", *SHORT, *overrides, f"hydra.run.dir={folder}"]):
        main()
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    del summary["provenance"], summary["controller"]
    table = parquet.read_table(folder / "intervals.parquet")
    # How long this machine took to decide is no number of the run.
    metrics = {name: value for name, value in _flat(summary) if "decision_p" not in name}
    for name in table.column_names:
        metrics |= _column(name, table[name].to_pylist())
    return metrics


def _vector() -> Metrics:
    """Steps different servers at once, over the end of an episode, with random actions."""
    vector = gymnasium.make_vec(
        "pals/Simulated-v0",
        num_envs=_SERVERS,
        max_episode_steps=_EPISODE_STEPS,
        model=["mixtral_8x7b", "qwen15_moe_a27b"],
        workload=["bursty_strong", {"base": "poisson_gsm8k", "load": 1.3}],
        objective=["throughput_target", "latency_slo", "budget_steps", "moving_target"],
    )
    vector.action_space.seed(_SEED)
    observation, _ = vector.reset(seed=_SEED)
    seen: dict[str, list[np.ndarray[Any, Any]]] = {"observations": [observation]}
    for _ in range(_STEPS):
        observation, reward, _, truncated, info = vector.step(vector.action_space.sample())
        step = {"observations": observation, "reward": reward, "truncated": truncated}
        step |= {f"info.{name}": value for name, value in _flat(info)}
        for name, value in step.items():
            seen.setdefault(name, []).append(np.asarray(value))
    vector.close()
    metrics: Metrics = {}
    for name, rows in seen.items():
        metrics |= _column(name, np.stack(rows).ravel().tolist())
    return metrics


def _mixture() -> Metrics:
    """Draws what an agent is trained on; every workload and objective of it counts."""
    mixture: Mixture = catalog.build("mixture", "default")
    metrics: Metrics = {}
    for number, scenario in enumerate(mixture.draw(24, np.random.default_rng(_SEED))):
        for part in (scenario.workload, scenario.objective):
            for name, value in _flat(asdict(part), f"{number}.{type(part).__name__}"):
                endless = isinstance(value, float) and not math.isfinite(value)
                metrics[name] = str(value) if endless else value
    return metrics


def _column(name: str, values: list[Any]) -> Metrics:
    """Returns the hash of a column, and the sum of its finite numbers."""
    numbers = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:_DIGITS]
    return {f"{_HASH}{name}": digest, f"sum of {name}": math.fsum(numbers)}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every leaf of nested mappings, named tuples and tuples with its dotted name."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif isinstance(value, tuple):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
