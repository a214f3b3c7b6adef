"""The card of a trained agent: what its bundle knows of it, as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from agents.bundle_facts import Bundle
from envs import catalog
from experiments.app import schemas
from experiments.app.composition import typed
from experiments.evaluation.metric_table import METRICS
from experiments.imitation.config import ImitateConfig
from experiments.records.hashing import plain
from experiments.reporting.markdown import markdown_table
from experiments.training.policy_evaluation import EVALUATION_TABLE
from experiments.training.resumed import kept_configuration

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
    if taught := _taught(own):
        facts.insert(2, f"taught by planning on forks of its servers: {taught}")
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


def _taught(own: Mapping[str, Any]) -> str | None:
    """Returns how an agent was taught; ``None`` for one that was trained."""
    if "rounds" not in own:
        return None
    recipe = _recipe(own)
    usual = _usual_teaching(recipe)
    differs = [key for key, value in own.items() if key in usual and value != usual[key]]
    plain_ones = [key for key in differs if not isinstance(usual[key], dict | list)]
    changed = [f"{key}={'null' if own[key] is None else own[key]}" for key in plain_ones]
    command = "`" + " ".join(["python -m experiments.imitate", *recipe, *changed]) + "`"
    parts = [f"`{key}`" for key in differs if key not in plain_ones]
    if parts:
        return f"{command}, with {', '.join(parts)} as `bundle.json` has them"
    return f"{command} makes it again"


def _usual_teaching(overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the configuration of a teaching as its command composes it."""
    schemas.register()
    started = GlobalHydra.instance().is_initialized()  # by the command that has taught it
    conf = str(catalog.CONF_DIR)
    with nullcontext() if started else initialize_config_dir(conf, version_base="1.3"):
        node = compose("imitate", overrides=list(overrides))
    return kept_configuration(typed(ImitateConfig, node))


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
