"""What a ``quantization_config`` says of single parts of a model, beside what it says of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from envs.errors import ConfigurationError
from envs.simulator.architectures.keys import shown

_WHOLE = frozenset({"Linear"})
"""Classes that stand for all projections."""


def problem(key: str, text: str) -> ConfigurationError:
    """Returns the error that names a key of the quantisation, and the way out."""
    return ConfigurationError(
        f"model: quantization_config.{key} {text}; set model.weight_precision yourself"
    )


def converted_only(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the modules that alone are converted (GPTQ); none for all.

    Args:
        config: Contents of ``quantization_config``.

    Raises:
        ConfigurationError: They are no lists of names.
    """
    key = "modules_in_block_to_quantize"
    stated = config.get(key) or []
    lists = stated if isinstance(stated, list) else [stated]
    names = [name for one in lists for name in (one if isinstance(one, list) else [one])]
    if not all(isinstance(name, str) and name for name in names):
        raise problem(key, f"must be lists of names, got {shown(stated)}")
    return tuple(names)


def targets_only(groups: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the modules that the groups of compressed-tensors name; none for all.

    Args:
        groups: ``config_groups``.

    Raises:
        ConfigurationError: A target is no name, or a class that is not known.
    """
    lists = [group.get("targets") for group in groups.values() if isinstance(group, Mapping)]
    names = [name for one in lists if isinstance(one, list) for name in one]
    if _WHOLE.intersection(name for name in names if isinstance(name, str)):
        return ()
    for name in names:
        if not isinstance(name, str) or not (name.startswith("re:") or "." in name):
            raise problem("config_groups", f"targets {shown(name)}, which is not known")
    return tuple(names)


def kept_by_exceptions(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields the modules that exceptions from the whole leave in 16 bits.

    Args:
        config: Contents of ``quantization_config``.

    Raises:
        ConfigurationError: An exception gives a part another precision, or is no mapping.
    """
    bits = next((config[k] for k in ("bits", "w_bit", "wbits") if config.get(k)), None)
    for key in ("dynamic", "extra_config"):
        for name, own in _mapping(config, key).items():
            if str(name).startswith("-:"):
                yield f"re:{str(name)[2:]}"
                continue
            stated = own.get("bits") if isinstance(own, Mapping) else own
            wide = isinstance(stated, int) and not isinstance(stated, bool) and stated >= 16
            if wide and key == "extra_config":
                yield str(name)
            elif stated not in (None, bits):
                raise problem(key, f"gives {name} {shown(stated)} bits, and the rest {shown(bits)}")


def refuse_others(config: Mapping[str, Any]) -> None:
    """Refuses what changes the bytes of weights in a way that a specification cannot say.

    Args:
        config: Contents of ``quantization_config``.

    Raises:
        ConfigurationError: Parts have a precision of their own, the output projection is
            converted, or weights are kept without their zeros.
    """
    usual = _mapping(config, "global_quant_config").get("weight")
    for key in ("layer_quant_config", "layer_type_quant_config"):
        for name, own in _mapping(config, key).items():
            if not isinstance(own, Mapping) or own.get("weight") != usual:
                raise problem(key, f"gives {name} weights of another kind than the rest")
    for key in ("lm_head", "quant_lm_head"):
        if config.get(key) is True:
            raise problem(key, "converts the output projection, which is not simulated")
    form = str(_mapping(config, "sparsity_config").get("format", "dense"))
    for key, stated in (("sparsity_config", form), ("format", str(config.get("format", "")))):
        if any(word in stated for word in ("sparse", "bitmask", "24")):
            raise problem(key, f"is {stated}: weights without their zeros are not simulated")


def _mapping(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = config.get(key)
    if found is None or found is False:
        return {}
    if not isinstance(found, Mapping):
        raise problem(key, f"must be a mapping, got {shown(found)}")
    return found
