"""The card of a trained agent: what its bundle knows of it, as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.bundle_facts import Bundle
from envs import catalog
from experiments.evaluation.metric_table import METRICS
from experiments.imitation.config import ImitateConfig
from experiments.records.hashing import plain
from experiments.reporting.markdown import markdown_table
from experiments.training.policy_evaluation import EVALUATION_TABLE

CARD_FILE = "card.md"
_USUAL = "ppo"
_WEAK = 0.10
"""Rate of violations above which a scenario is named as one where the agent fails."""


def model_card(bundle: Bundle) -> str:
    """Returns the card as Markdown; every number on it is one of the bundle's facts."""
    own, evaluation = bundle.configuration, bundle.evaluation
    hours = evaluation["steps"] * float(own.get("interval", 0.5)) / 3600.0
    facts = [
        f"algorithm: `{bundle.algorithm}`, `{bundle.policy}` {bundle.policy_arguments}",
        f"trained for {evaluation['steps']:,} decisions ({hours:,.0f} simulated hours), seed "
        f"{own.get('seed')}",
        f"began with: {_start(own.get('start'))}",
        f"trained on calibrations: {', '.join(sorted(bundle.calibrations))}",
        f"observes {len(bundle.observation)} entries, acts by `{bundle.action['_target_']}`, caps "
        f"{'held' if bundle.shield else 'not held'} within power budgets",
        f"facts `{bundle.sha256[:16]}`, weights `{bundle.weights_sha256[:16]}`, version "
        f"{bundle.provenance.get('version')}",
    ]
    if command := _command(own):
        facts.insert(2, f"taught by planning on forks of its servers: `{command}` makes it again")
    parts = [
        "# A trained agent",
        "Made from `bundle.json` by the training (or `python -m experiments.card DIR`).",
        "\n".join(f"- {fact}" for fact in facts),
    ]
    if asked := evaluation.get("asked"):
        parts += [
            "## What it reaches when it is asked for a limit",
            "Means over the held-out scenarios, without the loop that adapts to a server.",
            _table("limit", {f"{100 * float(name):g} %": row for name, row in asked.items()}),
        ]
    scenarios = evaluation.get("scenarios") or {}
    if scenarios:
        parts += [
            "## Held-out scenarios",
            _table("scenario", scenarios),
            "## Where it fails",
            _failures(scenarios),
        ]
    return "\n\n".join(parts) + "\n"


def _command(own: Mapping[str, Any]) -> str | None:
    """Returns the command that taught an agent; ``None`` for one that was trained."""
    if "rounds" not in own:
        return None
    changed = [
        f"{key}={'null' if own[key] is None else format(own[key], 'g')}"
        for key, usual in vars(ImitateConfig()).items()
        if isinstance(usual, int | float) and own.get(key, usual) != usual
    ]
    return " ".join(["python -m experiments.imitate", *_recipe(own), *changed])


def _recipe(own: Mapping[str, Any]) -> list[str]:
    """Returns which recipe an agent follows, as a choice; none for the usual one."""
    for name in catalog.names("agent"):
        node = plain(catalog.load("agent", name))
        if all(node[key] == own["agent"][key] for key in ("algorithm", "action")):
            return [] if name == _USUAL else [f"agent={name}"]
    return []


def _start(name: Any) -> str:
    return "random weights" if name is None else f"the weights of the bundle `{name}` of that time"


def _table(first: str, rows: Mapping[str, Mapping[str, float | None]]) -> str:
    head = [first, *(metric.head for metric in EVALUATION_TABLE)]
    lines = [
        [name, *(metric.text(row.get(metric.key)) for metric in EVALUATION_TABLE)]
        for name, row in rows.items()
    ]
    return markdown_table(head, lines, "l" + "r" * len(EVALUATION_TABLE))


def _failures(scenarios: Mapping[str, Mapping[str, float | None]]) -> str:
    found = []
    for name, row in scenarios.items():
        for key in ("qos_violation_rate", "slo_violation_rate"):
            rate = row.get(key)
            if rate is not None and rate > _WEAK:
                metric = METRICS[key]
                found.append(f"- `{name}`: {metric.title} {metric.text(rate)} %")
    return "\n".join(found) or f"In none of them it exceeds {100 * _WEAK:g} % of violations."
