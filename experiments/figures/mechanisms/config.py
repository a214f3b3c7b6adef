"""What is tried for each claim (``conf/figure/mechanisms.yaml``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from envs.errors import ConfigurationError
from envs.fields import Checked, OneOf
from envs.quantities import Positive

RATIO, CLUSTER_VIOLATIONS, LOWEST_TARGETS = "ratio", "cluster_violations", "lowest_targets"
KINDS = (RATIO, CLUSTER_VIOLATIONS, LOWEST_TARGETS)


@dataclass(kw_only=True)
class Trial(Checked):
    """A claim of the paper, and the mechanisms under which it is evaluated again.

    Attributes:
        claim: What the paper says, and where.
        paper: The paper's value or range, as a ratio.
        kind: How ours is computed: ``ratio`` of two controllers' tokens per joule on one server;
            ``cluster_violations``, Baseline's plain violations over PALS's; ``lowest_targets``,
            PALS's throughput over that of a static batch at the lowest power targets.
        models: Models of ``ratio``, averaged over.
        of: Controller whose efficiency is the numerator (``ratio``).
        over: Controllers of the denominator, of which the best counts (``ratio``).
        scenario: Parts of the scenario of both (``ratio``).
        apart: Parts of the numerator's scenario that are different: more nodes (``ratio``).
        overrides: What is run, as overrides of ``experiments.run`` (the other kinds).
        metric: What is compared: tokens per joule (``ratio``), a rate of violations.
        mechanisms: What is different, by name. Of ``ratio`` any of ``of``, ``scenario``,
            ``apart`` and ``metric``, merged into the trial's; of the other kinds further
            ``overrides`` and another ``metric``.
        unsaid: What the paper leaves open that would settle it.
    """

    claim: str
    paper: list[Positive]
    kind: Annotated[str, OneOf(*KINDS)] = RATIO
    models: list[str] = field(default_factory=list)
    of: Any = None
    over: list[Any] = field(default_factory=list)
    scenario: dict[str, Any] = field(default_factory=dict)
    apart: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    metric: str = "tokens_per_joule"
    mechanisms: dict[str, Any] = field(default_factory=dict)
    unsaid: str = ""

    def under(self, mechanism: str) -> Trial:
        """Returns the trial under one of its mechanisms.

        Raises:
            ConfigurationError: The mechanism changes what does not depend on it.
        """
        changes = dict(self.mechanisms[mechanism] or {})
        unknown = sorted(set(changes) - {"of", "scenario", "apart", "metric", "overrides"})
        if unknown:
            raise ConfigurationError(
                f"figure.mechanisms.{mechanism!r}: {', '.join(unknown)} cannot be changed; of, "
                "scenario, apart, metric and overrides can"
            )
        return replace(
            self,
            of=changes.get("of", self.of),
            metric=changes.get("metric", self.metric),
            scenario=merged(self.scenario, changes.get("scenario", {})),
            apart=merged(self.apart, changes.get("apart", {})),
            overrides=[*self.overrides, *changes.get("overrides", [])],
        )


def merged(parts: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested mappings with changes; a plain choice is replaced as a whole."""
    result = dict(parts)
    for key, value in changes.items():
        known = result.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        result[key] = merged(dict(known or {}), value) if both and "base" not in value else value
    return result
