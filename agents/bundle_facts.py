"""The facts of a bundle about its policy, and the checks that they pass when they are read.

A bundle may come from an untrusted source. It may name only algorithms, policies and action
encodings that are listed here; every other entry is a number or a name whose type is checked.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from envs import catalog
from envs.errors import ConfigurationError
from envs.strict_json import read_json

FORMAT = 2
ALGORITHMS = catalog.LIBRARY["algorithm"]
POLICIES = ("MlpPolicy", "MlpLstmPolicy")
WIDEST, _DEEPEST, _MOST_ENTRIES = 4096, 8, 10_000


@dataclass(kw_only=True)
class Bundle:
    """A trained agent's facts; :func:`agents.bundle.load_policy` gives the policy itself.

    Attributes:
        algorithm: Import path of the algorithm's class.
        policy: Name of the policy among the algorithm's, such as ``MlpPolicy``.
        policy_arguments: Further arguments of the policy's class.
        observation: What each entry of an observation means.
        action: Configuration of the action encoding.
        grid: What of the knob grid the policy depends on.
        shield: Whether its caps are held within the power budget (:mod:`agents.shield`).
        calibrations: Hash of each calibration it was trained on, by name.
        configuration: The training's configuration.
        evaluation: Its metrics on held-out scenarios.
        provenance: Version, commit and platform.
        weights_sha256: Hash of the weights' file.
        sha256: Hash of all other facts, the weights' hash among them: it names the agent.
        format: Version of this format.
    """

    algorithm: str
    policy: str
    policy_arguments: dict[str, Any]
    observation: list[dict[str, Any]]
    action: dict[str, Any]
    grid: dict[str, Any]
    shield: bool
    calibrations: dict[str, str]
    configuration: dict[str, Any]
    evaluation: dict[str, Any]
    provenance: dict[str, Any]
    weights_sha256: str = ""
    sha256: str = ""
    format: int = field(default=FORMAT)


def facts_sha256(facts: Mapping[str, Any]) -> str:
    """Returns the hash of a bundle's facts without :attr:`Bundle.sha256` itself."""
    kept = {key: value for key, value in facts.items() if key != "sha256"}
    text = json.dumps(kept, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parse_facts(text: bytes) -> Bundle:
    """Returns the facts that a ``bundle.json`` holds.

    Raises:
        ConfigurationError: It is damaged, of another format, or says something that no bundle
            may say; the message names the key.
    """
    try:
        facts: Any = read_json(text, finite=True)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"damaged ({type(error).__name__}: {error})") from error
    if not isinstance(facts, dict):
        raise ConfigurationError("damaged (it holds no JSON object)")
    if facts.get("format") != FORMAT:
        raise ConfigurationError(
            f"format {facts.get('format')!r}, and this version reads format {FORMAT}; "
            "train the agent again, or use the version it was trained with"
        )
    known = {item.name for item in fields(Bundle)}
    missing, unknown = sorted(known - facts.keys()), sorted(facts.keys() - known)
    if missing or unknown:
        raise ConfigurationError(
            f"damaged ({'; '.join([f'{key}: missing' for key in missing] + unknown)})"
        )
    for key, check in _CHECKS.items():
        try:
            check(key, facts[key])
        except RecursionError as error:
            raise ConfigurationError(f"{key}: nested too deep") from error
    if facts["sha256"] != facts_sha256(facts):
        raise ConfigurationError("changed since it was written (sha256: another SHA-256)")
    return Bundle(**facts)


def _wrong(key: str, rule: str, value: object) -> ConfigurationError:
    return ConfigurationError(f"{key}: must be {rule}, got {str(value)[:80]!r}")


def _typed(kind: type, rule: str) -> Callable[[str, Any], None]:
    def check(key: str, value: Any) -> None:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise _wrong(key, rule, value)

    return check


_text, _truth = _typed(str, "text"), _typed(bool, "true or false")
_mapping, _sequence = _typed(dict, "an object"), _typed(list, "a list")


def _number(key: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) <= sys.float_info.max:
        raise _wrong(key, "a finite number", value)


def _count(key: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2**53:
        raise _wrong(key, "a whole number, 0 or above", value)


def _counts(key: str, value: Any) -> None:
    _sequence(key, value)
    for index, item in enumerate(value):
        _count(f"{key}[{index}]", item)


def _one_of(allowed: Any) -> Callable[[str, Any], None]:
    def check(key: str, value: Any) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise _wrong(key, f"one of {', '.join(sorted(allowed))}", value)

    return check


def _layers(key: str, value: Any) -> None:
    """Checks the widths of a network's layers, one list or one for each of its heads."""
    if isinstance(value, dict):
        for name, widths in value.items():
            if name not in ("pi", "vf", "qf"):
                raise _wrong(f"{key}.{name}", "pi, vf or qf", name)
            _sequence(f"{key}.{name}", widths)
            _layers(f"{key}.{name}", widths)
        return
    _counts(key, value)
    if len(value) > _DEEPEST or not all(1 <= width <= WIDEST for width in value):
        raise _wrong(key, f"at most {_DEEPEST} layers of 1 to {WIDEST} units", value)


def _width(key: str, value: Any) -> None:
    _count(key, value)
    if not 1 <= value <= WIDEST:
        raise _wrong(key, f"1 to {WIDEST}", value)


_POLICY_ARGUMENTS: dict[str, Callable[[str, Any], None]] = {
    "net_arch": _layers, "log_std_init": _number, "ortho_init": _truth, "use_sde": _truth,
    "full_std": _truth, "use_expln": _truth, "squash_output": _truth, "n_critics": _width,
    "n_quantiles": _width, "share_features_extractor": _truth, "lstm_hidden_size": _width,
    "n_lstm_layers": _width, "shared_lstm": _truth, "enable_critic_lstm": _truth,
}  # fmt: skip


def check_policy_arguments(key: str, value: Any) -> None:
    """Checks the arguments that a bundle's policy is built with.

    Args:
        key: What they are called, for the message.
        value: The arguments.

    Raises:
        ConfigurationError: One is unknown, or no policy could be built with it.
    """
    _mapping(key, value)
    for name, item in value.items():
        if name not in _POLICY_ARGUMENTS:
            raise ConfigurationError(f"{key}.{name}: no policy has that argument")
        _POLICY_ARGUMENTS[name](f"{key}.{name}", item)


def _observation(key: str, value: Any) -> None:
    _sequence(key, value)
    if not 1 <= len(value) <= _MOST_ENTRIES:
        raise _wrong(key, f"a list of 1 to {_MOST_ENTRIES} entries", len(value))
    for index, entry in enumerate(value):
        place = f"{key}[{index}]"
        _mapping(place, entry)
        checks = {"name": _text, "high": _number, "unbounded": _truth}
        checks |= {name: _number for name in ("unit", "top", "from_s", "to_s") if name in entry}
        for name, check in checks.items():
            if name not in entry:
                raise ConfigurationError(f"{place}.{name}: missing")
            check(f"{place}.{name}", entry[name])
        if unknown := entry.keys() - checks.keys():
            raise ConfigurationError(f"{place}: unknown key {min(unknown)!r}")


def _action(key: str, value: Any) -> None:
    _mapping(key, value)
    for name, item in value.items():
        if isinstance(item, str) and ("${" in item or item == "???"):
            raise _wrong(f"{key}.{name}", "a plain value", item)
    try:
        catalog.build("action", value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{key}: {error}") from error


def _grid(key: str, value: Any) -> None:
    _mapping(key, value)
    checks = {"power_caps": _count, "max_num_seqs": _counts, "sm_clocks": _count}
    for name, check in checks.items():
        if name not in value:
            raise ConfigurationError(f"{key}.{name}: missing")
        check(f"{key}.{name}", value[name])


def _calibrations(key: str, value: Any) -> None:
    _mapping(key, value)
    for name, item in value.items():
        _text(f"{key}.{name}", item)


def _evaluation(key: str, value: Any) -> None:
    _mapping(key, value)
    _count(f"{key}.steps", value.get("steps"))


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "algorithm": _one_of(ALGORITHMS),
    "policy": _one_of(POLICIES),
    "policy_arguments": check_policy_arguments,
    "observation": _observation,
    "action": _action,
    "grid": _grid,
    "shield": _truth,
    "calibrations": _calibrations,
    "configuration": _mapping,
    "evaluation": _evaluation,
    "provenance": _mapping,
    "weights_sha256": _text,
    "sha256": _text,
}
