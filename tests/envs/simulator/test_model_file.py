"""What is given beside a model's file counts, whatever its value."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs import catalog
from envs.errors import ConfigurationError
from envs.simulator.model_file import ModelFile

SHAPE: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 16, "hidden_size": 2048,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192,
    "vocab_size": 128256, "max_position_embeddings": 8192, "torch_dtype": "float32",
    "quantization_config": {"quant_method": "fp8"},
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SHAPE))
    return path


def build(file: Path, **given: Any) -> ModelFile:
    model: ModelFile = catalog.build("model", {"base": "huggingface", "path": str(file), **given})
    return model


def test_the_file_counts_where_nothing_is_given(file: Path) -> None:
    model = build(file)
    assert (model.weight_precision, model.max_model_len, model.layers) == ("fp8", 8192, 16)
    assert model.path == str(file)


def test_a_value_that_equals_the_schemas_default_counts(file: Path) -> None:
    model = build(file, weight_precision="bf16", max_model_len=4096, kv_heads=0, layers=1)
    assert (model.weight_precision, model.max_model_len, model.layers) == ("bf16", 4096, 1)
    assert model.kv_heads == model.heads == 32
    assert replace(model, layers=2).weight_precision == "bf16"


def test_the_way_out_that_a_refusal_names_is_one(file: Path) -> None:
    unknown = {**SHAPE, "quantization_config": {"quant_method": "strange"}}
    file.write_text(json.dumps(unknown))
    with pytest.raises(ConfigurationError, match=r"set model\.weight_precision"):
        build(file)
    assert build(file, weight_precision="bf16").weight_precision == "bf16"


def test_keys_are_still_checked(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="lairs"):
        build(file, lairs=3)
    with pytest.raises(ConfigurationError, match=r"model\.layers: must be >= 1"):
        build(file, layers=0)
    with pytest.raises(ConfigurationError, match=r"model\.path: no value given"):
        catalog.build("model", "huggingface")
