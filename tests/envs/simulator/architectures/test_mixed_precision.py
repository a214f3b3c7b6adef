"""What a quantised checkpoint says of single parts of the model is read, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from published_models import LLAMA
from support.model_specs import spec_in, spec_of

from envs.errors import ConfigurationError
from envs.simulator.model_file import ModelFile
from envs.simulator.models import ModelSpec

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
ATTENTION, FEED = 32 * 4096 * 128 * 2 * (32 + 8), 32 * 3 * 4096 * 14336


def spec(quantised: dict[str, Any]) -> ModelSpec:
    return spec_of({**LLAMA, "quantization_config": quantised})


def compressed(*targets: str, **more: Any) -> dict[str, Any]:
    weights = {"num_bits": 4, "type": "int", "group_size": 128, "strategy": "group"}
    group = {"targets": list(targets), "weights": weights}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, **more}


@pytest.mark.parametrize(
    ("quantised", "kept"),
    [
        (compressed("Linear"), 0),
        (compressed("re:.*mlp.*"), ATTENTION),
        (compressed("re:.*self_attn.*"), FEED),
        (compressed("re:.*mlp.*", "re:.*self_attn.*"), 0),
        (compressed("Linear", ignore=["re:.*o_proj"]), 32 * 4096 * 4096),
        (compressed("Linear", ignore=["k_proj", "v_proj"]), 32 * 4096 * 128 * 2 * 8),
        (compressed("re:.*mlp.*", ignore=["re:.*down_proj"]), ATTENTION + FEED // 3),
        ({**GPTQ, "modules_in_block_to_quantize": [["mlp.gate_proj"], ["mlp.up_proj"]]},
         ATTENTION + FEED // 3),
        ({**GPTQ, "dynamic": {"-:.*self_attn.*": {}, "+:.*mlp.*": {"bits": 4}}}, ATTENTION),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": {
            f"model.layers.{layer}.self_attn": {"bits": 16} for layer in range(16)}},
         ATTENTION // 2),
    ],
)  # fmt: skip
def test_parts_that_are_not_converted_stay_in_16_bits(quantised: dict[str, Any], kept: int) -> None:
    assert spec(quantised).unconverted_params == kept


QUARK = {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}


@pytest.mark.parametrize(
    ("quantised", "named"),
    [
        ({**GPTQ, "dynamic": {"+:.*mlp.*": {"bits": 8}}}, r"dynamic gives .*mlp.* 8 bits"),
        ({**GPTQ, "dynamic": {".*mlp.*": {"bits": 8}}}, "dynamic gives"),
        ({**GPTQ, "dynamic": [1]}, "dynamic must be a mapping"),
        ({**GPTQ, "extra_config": {"lm_head": {"bits": 8}}}, "extra_config gives lm_head"),
        ({**GPTQ, "lm_head": True}, "lm_head converts the output projection"),
        ({**GPTQ, "modules_in_block_to_quantize": [[1]]}, "modules_in_block_to_quantize"),
        (compressed("Llama4Odd"), "targets 'Llama4Odd'"),
        (compressed("Linear", sparsity_config={"format": "sparse-24-bitmask"}), "sparsity_config"),
        (compressed("Linear", format="marlin-24"), "format is marlin-24"),
        ({**QUARK, "layer_quant_config": {"*mlp*": {"weight": {"dtype": "int4"}}}},
         "layer_quant_config gives"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"},
         "kv_cache_quant_algo 'NVFP4'"),
    ],
)  # fmt: skip
def test_parts_of_another_precision_are_refused(quantised: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{named}.*set model.weight_precision"):
        spec(quantised)


def test_the_same_said_twice_is_no_other_precision() -> None:
    same = {"*mlp*": {"weight": {"dtype": "fp8_e4m3"}}}
    assert spec({**QUARK, "layer_quant_config": same}).weight_precision == "fp8"


@pytest.mark.parametrize(
    "name", ["hf_quant_config.json", "quantize_config.json", "quant_config.json"]
)
def test_a_precision_that_stands_in_a_file_beside_is_not_overlooked(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA))
    assert spec_in(tmp_path).weight_precision == "bf16"
    (tmp_path / name).write_text(json.dumps({"bits": 4}))
    for path in (tmp_path, file):
        with pytest.raises(ConfigurationError, match=rf"{name}.*set model.weight_precision"):
            spec_in(path)
    assert ModelFile(path=str(file), weight_precision="int4").weight_precision == "int4"
    file.write_text(json.dumps({**LLAMA, "quantization_config": GPTQ}))
    assert spec_in(file).weight_precision == "int4"
