"""In which precision a checkpoint keeps its weights, by its ``quantization_config``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from envs.errors import ConfigurationError
from envs.simulator.architectures.keys import shown
from envs.simulator.architectures.mixed import (
    converted_only,
    kept_by_exceptions,
    problem,
    refuse_others,
    targets_only,
)

BY_BITS = {2: "int2", 3: "int3", 4: "int4", 8: "int8"}
_FOUR = ("int4", "int4_g32")
"""4 bits with few scales and with many: one per 128 weights, or per 32."""


class Precision(NamedTuple):
    """How weights are stored.

    Attributes:
        weights: Precision of dense weights.
        experts: Precision of routed experts; empty for that of dense weights.
        kept: Names and patterns of modules that stay in 16 bits.
        cache_bytes: Bytes of a cached element, where the checkpoint decides it.
        only: Names and patterns of modules that alone are converted; none for all.
    """

    weights: str
    experts: str = ""
    kept: tuple[str, ...] = ()
    cache_bytes: float | None = None
    only: tuple[str, ...] = ()


def precision(config: Mapping[str, Any], values: Mapping[str, Any]) -> Precision:
    """Returns how a server keeps a checkpoint's weights.

    One that is not quantised is served in 16 bits, whatever its ``dtype``: vLLM casts 32-bit
    weights by default.

    Args:
        config: Contents of the file.
        values: The part that describes the language model.

    Raises:
        ConfigurationError: The format is not known.
    """
    for place in (config, values):
        for key in ("torch_dtype", "dtype"):
            _refuse_other_type(key, place.get(key))
    for place in (config, values):
        for key in _SAYS:
            found = place.get(key)
            if found:
                if not isinstance(found, Mapping):
                    raise problem(key, f"must be a mapping, got {shown(found)}")
                return _quantized(found)
    return Precision("bf16")


_BESIDE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
"""Files in which older tools (ModelOpt, AutoGPTQ, AutoAWQ) say how they stored the weights."""
_SAYS = ("quantization_config", "compression_config")


def refuse_stated_beside(config: Mapping[str, Any], folder: Path) -> None:
    """Refuses a model whose precision stands in a file of its own, where engines look for it.

    Args:
        config: Contents of the ``config.json``.
        folder: Where it lies.

    Raises:
        ConfigurationError: There is such a file, and the ``config.json`` says nothing.
    """
    places = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    if any(place.get(key) for place in places for key in _SAYS):
        return
    for name in _BESIDE:
        if (folder / name).exists():
            raise ConfigurationError(
                f"model: {name} says how the weights are stored, and the config.json beside it "
                "does not; set model.weight_precision yourself, or put its content under "
                "quantization_config in the config.json"
            )


_TYPES = frozenset(
    {"auto", "float64", "float32", "float16", "bfloat16", "float", "half", "fp32", "fp16", "bf16"}
)


def _refuse_other_type(key: str, stated: Any) -> None:
    if stated is not None and str(stated).removeprefix("torch.") not in _TYPES:
        raise ConfigurationError(
            f"model: {key} of the config.json is {shown(stated)}, which is not known (known: "
            f"{', '.join(sorted(_TYPES))}); set model.weight_precision yourself"
        )


def _quantized(config: Mapping[str, Any]) -> Precision:
    method = str(config.get("quant_method", config.get("quant_algo", ""))).lower().replace("_", "-")
    kept = _kept(config)
    refuse_others(config)
    if method in ("fp8", "fbgemm-fp8", "ptpc-fp8", "deepspeed-fp8", "fine-grained-fp8"):
        block = config.get("weight_block_size")
        return Precision("fp8_block" if block else "fp8", kept=kept)
    if method in ("awq", "awq-marlin", "gptq", "gptq-marlin", "auto-round", "autoround", "inc",
                  "auto-awq", "gptqmodel"):  # fmt: skip
        name = _integer(config, "bits", "w_bit", "wbits")
        size = config.get("group_size", config.get("q_group_size"))
        return Precision(_grouped(name, size), kept=kept, only=converted_only(config))
    if method == "bitsandbytes":
        four = config.get("load_in_4bit") or config.get("_load_in_4bit")
        eight = config.get("load_in_8bit") or config.get("_load_in_8bit")
        if bool(four) == bool(eight):
            raise problem("load_in_4bit", "or load_in_8bit must be true, and one of them only")
        double = bool(config.get("bnb_4bit_use_double_quant"))
        return Precision(_FOUR[not double] if four else "int8", kept=kept)
    if method in ("compressed-tensors", "compressed-tensor"):
        return _compressed(config, kept)
    if method == "mxfp4":
        return Precision("bf16", "mxfp4")
    if method in ("modelopt", "modelopt-fp4", "nvfp4", "fp8-pb-wo") or "quant_algo" in config:
        return _modelopt(config, kept)
    if method == "quark":
        return _quark(config, kept)
    raise problem("quant_method", f"{method!r} is not known")


_KEPT = (
    "modules_to_not_convert", "ignore", "ignored_layers", "llm_int8_skip_modules", "exclude",
    "exclude_modules", "ignored_modules",
)  # fmt: skip


def _kept(config: Mapping[str, Any]) -> tuple[str, ...]:
    names: list[str] = []
    for key in _KEPT:
        found = config.get(key)
        if found is None:
            continue
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise problem(key, f"must be a list of names, got {shown(found)}")
        names += found
    return (*names, *kept_by_exceptions(config))


def _integer(config: Mapping[str, Any], *keys: str) -> str:
    bits = next((config[key] for key in keys if config.get(key) is not None), None)
    if not isinstance(bits, int) or isinstance(bits, bool) or bits not in BY_BITS:
        raise problem(keys[0], f"must be one of 2, 3, 4 and 8, got {shown(bits)}")
    return BY_BITS[bits]


def _grouped(name: str, group_size: Any) -> str:
    many = isinstance(group_size, int) and 0 < group_size <= 32
    return _FOUR[many] if name == "int4" else name


def _weights(group: Any) -> Mapping[str, Any]:
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping):
        raise problem("config_groups", "must state the weights of every group")
    return weights


def _compressed(config: Mapping[str, Any], kept: tuple[str, ...]) -> Precision:
    groups = config.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise problem("config_groups", f"must hold a group, got {shown(groups)}")
    found = {_of_weights(_weights(group)) for group in groups.values()}
    if len(found) > 1:
        raise problem("config_groups", f"has groups of several precisions: {sorted(found)}")
    targets = [
        name
        for group in groups.values()
        if isinstance(group, Mapping) and isinstance(group.get("targets"), list)
        for name in group["targets"]
    ]
    only_experts = targets and all("expert" in str(name) for name in targets)
    if only_experts:
        return Precision("bf16", found.pop(), kept)
    return Precision(found.pop(), kept=kept, only=targets_only(groups))


def _of_weights(weights: Mapping[str, Any]) -> str:
    bits, kind = weights.get("num_bits"), str(weights.get("type", "int"))
    strategy = str(weights.get("strategy", ""))
    if kind == "float" and bits == 8:
        return "fp8_block" if strategy == "block" else "fp8"
    if kind == "float" and bits == 4:
        return "mxfp4" if weights.get("group_size") == 32 else "nvfp4"
    whole = isinstance(bits, int) and not isinstance(bits, bool)
    if kind == "int" and whole and bits in BY_BITS:
        return _grouped(BY_BITS[bits], weights.get("group_size"))
    raise problem("config_groups", f"has weights of {shown(bits)} bits of type {kind!r}")


def _modelopt(config: Mapping[str, Any], kept: tuple[str, ...]) -> Precision:
    inner = config.get("quantization")
    if isinstance(inner, Mapping):
        config = {**config, **inner}
        kept = kept or _kept(inner)
    algorithm = str(config.get("quant_algo") or "").upper()
    cache = str(config.get("kv_cache_quant_algo") or "").upper()
    scheme = config.get("kv_cache_scheme")
    if isinstance(scheme, Mapping) and scheme.get("num_bits") == 8:
        cache = "FP8"
    names = {
        "FP8": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8", "FP8_PB_WO": "fp8_block",
        "NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "W4A16_NVFP4": "nvfp4", "W4A8_AWQ": "int4",
        "W4A16_AWQ": "int4", "INT8_SQ": "int8", "W8A16": "int8", "MXFP8": "fp8_block",
    }  # fmt: skip
    if algorithm not in names:
        raise problem("quant_algo", f"{algorithm!r} is not known")
    if cache not in ("", "NONE", "FP8"):
        raise problem("kv_cache_quant_algo", f"{cache!r} is not known")
    return Precision(names[algorithm], "", kept, 1.0 if cache == "FP8" else None)


def _quark(config: Mapping[str, Any], kept: tuple[str, ...]) -> Precision:
    general = config.get("global_quant_config")
    weight = general.get("weight") if isinstance(general, Mapping) else None
    weight = weight[0] if isinstance(weight, list) and weight else weight
    kind = str(weight.get("dtype", "")) if isinstance(weight, Mapping) else ""
    names = {"fp8_e4m3": "fp8", "fp4": "mxfp4", "int4": "int4", "uint4": "int4", "int8": "int8"}
    if kind not in names:
        raise problem("global_quant_config", f"has weights of type {kind!r}, which is not known")
    return Precision(names[kind], kept=kept)
