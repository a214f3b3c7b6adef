"""Makes a model folder of real shape without weights, for ``vllm serve --load-format dummy``.

Nothing is downloaded: ``config.json`` holds the published sizes, the tokenizer has made-up
entries. vLLM's dummy loader fills the weights with small random numbers (uniform within 0.001),
never zeros: products of zeros run faster and cooler than real ones. With such weights a sampled
token is nearly uniform over the vocabulary and so is the choice of experts, if the requests ask
for a temperature of 1::

    python -m experiments.measure_gpu.dummy_model qwen3-30b-a3b /tmp/qwen3-30b-a3b
"""

from __future__ import annotations

import argparse
import itertools
import json
import string
from pathlib import Path
from typing import Any

_COMMON: dict[str, Any] = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-06,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "initializer_range": 0.02,
    "use_cache": True,
}
_QWEN3_MOE = _COMMON | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "rope_theta": 1000000.0,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "router_aux_loss_coef": 0.001,
    "head_dim": 128,
    "max_position_embeddings": 40960,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3-30b-a3b": _QWEN3_MOE
    | {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_attention_heads": 32,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 48,
        "num_key_value_heads": 4,
        "vocab_size": 151936,
    },
    "llama-3.1-8b": _COMMON
    | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "vocab_size": 128256,
    },
    "tiny-moe": _QWEN3_MOE
    | {
        "head_dim": 80,
        "hidden_size": 320,
        "intermediate_size": 512,
        "moe_intermediate_size": 256,
        "num_attention_heads": 4,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "vocab_size": 4096,
    },
}
"""Sizes as published by the models' makers; ``tiny-moe`` is for trying the programs."""


def make_tokenizer(vocabulary: int) -> Any:
    """Returns a byte-level tokenizer with the given number of entries."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = itertools.product(string.ascii_lowercase, repeat=4)
    words = ("\u0120" + "".join(word) for word in letters)  # U+0120 is a space in this alphabet
    entries = ["<bos>", "<eos>", *alphabet, *itertools.islice(words, vocabulary)][:vocabulary]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(entries)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def make(name: str, folder: Path) -> None:
    """Writes the folder.

    Args:
        name: One of :data:`CONFIGS`.
        folder: Where to; made if it is not there.
    """
    config = CONFIGS[name]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    make_tokenizer(config["vocab_size"]).save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<eos>"}
    settings = names | {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def main() -> None:
    """Writes one model's folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(CONFIGS))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    make(options.name, options.folder)


if __name__ == "__main__":
    main()
